// The one exception type of qvlm. Every failure that a caller can meet (a bad file, a bad argument,
// a full disk) arrives as an Error whose kind says what to do and whose text names the file, tensor
// or key.
#pragma once

#include <stdexcept>
#include <string>

namespace qvlm {

enum class ErrorKind {
  kInvalidArgument,  // the call, recipe or command line is wrong: fix it
  kNotFound,         // a file, tensor or key is missing
  kCorrupt,          // a file contradicts itself or its format
  kUnsupported,      // valid, but not something this version or this CPU can do
  kIo,               // the operating system refused: permissions, full disk
  kResource,         // not enough memory or threads
  kInternal,         // a bug in qvlm
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace qvlm
