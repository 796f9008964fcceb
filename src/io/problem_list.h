// Everything that is wrong with a folder, collected instead of thrown: checks add to one list and
// go on. What the loaders throw becomes a line of it.
#pragma once

#include <qvlm/error.h>
#include <qvlm/verify.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

// Called with the number of bytes that have been read since the last call; may throw.
using BytesRead = std::function<void(std::int64_t)>;

// Not safe for use by two threads at once.
class ProblemList {
 public:
  explicit ProblemList(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // `text` may begin with the path of the file and the tensor, as texts of errors do: they are cut
  // off, and a path to another file of the folder takes the place of `file`.
  void add(std::string_view file, std::string_view tensor, std::string_view text);

  // To be called where `error` was caught: adds it, or throws it on where it tells of no damage
  // (kUnsupported, kResource, kInternal) and nothing was found that could be the reason.
  void accept(const Error& error, std::string_view file, std::string_view tensor);

  // Runs the step and gives whether it ended without an Error; one that it throws is accepted.
  bool attempt(std::string_view file, std::string_view tensor, const std::function<void()>& step);

  // The same for loading a file: an Error that names one with a problem is no second problem.
  bool attempt_load(const std::function<void()>& step);

  bool names(std::string_view file) const;           // whether a problem is of this file
  bool names_tensor(std::string_view tensor) const;  // or of this tensor
  std::size_t count() const { return problems_.size(); }
  const std::vector<VerifyProblem>& all() const { return problems_; }

 private:
  std::filesystem::path folder_;
  std::vector<VerifyProblem> problems_;
};

}  // namespace qvlm
