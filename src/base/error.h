// How the library fails: fail() and require() join their parts to one sentence and throw Error.
// Text form: "what is wrong: expected X, got Y (file, tensor)" and, where it helps, what to do.
#pragma once

#include <qvlm/error.h>

#include <sstream>
#include <string>

namespace qvlm {

// Joins the parts as operator<< prints them.
template <typename... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// Throws Error(kind) with the joined parts as its text.
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, join(parts...));
}

// Throws Error(kind) unless the condition holds.
template <typename... Parts>
void require(bool condition, ErrorKind kind, const Parts&... parts) {
  if (!condition) fail(kind, parts...);
}

}  // namespace qvlm
