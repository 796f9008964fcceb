#include "io/problem_list.h"

#include <algorithm>

#include "base/error.h"

namespace qvlm {
namespace {

// Cuts what leads to a sentence: "<lead>: it" and "<lead> is" lose the lead, "<lead>er" does not.
void cut(std::string_view& text, std::string_view lead) {
  if (!text.starts_with(lead)) return;
  const std::string_view rest = text.substr(lead.size());
  if (!rest.starts_with(":") && !rest.starts_with(" ")) return;
  text = rest.substr(rest.starts_with(": ") ? 2 : 1);
}

// A bug, a full memory or a model that is not ours says nothing about the files.
bool is_damage(ErrorKind kind) {
  return kind != ErrorKind::kUnsupported && kind != ErrorKind::kResource &&
         kind != ErrorKind::kInternal;
}

}  // namespace

void ProblemList::add(std::string_view file, std::string_view tensor, std::string_view text) {
  const std::string folder = (folder_ / "").string();
  std::string name(file);
  if (text.starts_with(folder)) {
    text.remove_prefix(folder.size());
    name = text.substr(0, text.find_first_of(": ("));
    cut(text, name);
  } else {
    cut(text, folder_.string());
  }
  if (!tensor.empty()) cut(text, join("tensor '", tensor, "'"));
  problems_.push_back({name, std::string(tensor), std::string(text)});
}

void ProblemList::accept(const Error& error, std::string_view file, std::string_view tensor) {
  if (problems_.empty() && !is_damage(error.kind())) throw error;
  add(file, tensor, error.what());
}

bool ProblemList::attempt(std::string_view file,
                          std::string_view tensor,
                          const std::function<void()>& step) {
  try {
    step();
    return true;
  } catch (const Error& error) {
    accept(error, file, tensor);
    return false;
  }
}

bool ProblemList::attempt_load(const std::function<void()>& step) {
  try {
    step();
    return true;
  } catch (const Error& error) {
    const std::string_view text = error.what();
    const bool known = std::ranges::any_of(problems_, [&](const VerifyProblem& problem) {
      return !problem.file.empty() && text.find(problem.file) != std::string_view::npos;
    });
    if (!known) accept(error, "", "");
    return false;
  }
}

bool ProblemList::names(std::string_view file) const {
  return std::ranges::any_of(problems_,
                             [&](const VerifyProblem& problem) { return problem.file == file; });
}

bool ProblemList::names_tensor(std::string_view tensor) const {
  return std::ranges::any_of(
      problems_, [&](const VerifyProblem& problem) { return problem.tensor == tensor; });
}

}  // namespace qvlm
