#include <qvlm/verify.h>

#include <chrono>
#include <set>

#include "base/error.h"
#include "base/process_memory.h"
#include "eval/forward_check.h"
#include "eval/source_comparison.h"
#include "eval/tensor_check.h"
#include "io/checksums.h"
#include "model/prompt_encoder.h"
#include "tensor/public_call.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMegabyte = 1'000'000;
constexpr int kRuns = 3;  // of the model, see check_forward()

std::int64_t total_bytes(const fs::path& folder) {
  std::int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return bytes;
}

class Verification {
 public:
  Verification(const fs::path& folder,
               const VerifyOptions& options,
               const ProgressCallback& progress);

  VerifyReport run();

 private:
  void check_files();
  std::int64_t open_model();
  void check_tensors();
  void compare();
  void run_model();

  // Runs a check that returns how much it looked at.
  void check(const std::string& name, const std::function<std::int64_t()>& look);
  void skip(const std::string& name, const std::string& why) {
    report_.checks.push_back({name, 0, 0, why});
  }
  void advance(std::int64_t bytes);
  // Why what needs the model cannot be done; empty: it can.
  std::string hindrance() const { return model_ ? "" : "the model cannot be opened"; }

  fs::path folder_;
  const VerifyOptions& options_;
  const ProgressCallback& progress_;
  ProblemList problems_;
  VerifyReport report_;
  std::optional<OpenedModel> model_;
  std::int64_t folder_bytes_ = 0, done_bytes_ = 0, total_bytes_ = 0;
  const BytesRead on_bytes_ = [this](std::int64_t bytes) { advance(bytes); };
};

Verification::Verification(const fs::path& folder,
                           const VerifyOptions& options,
                           const ProgressCallback& progress)
    : folder_(folder), options_(options), progress_(progress), problems_(folder) {
  std::error_code ignored;
  require(fs::is_directory(folder, ignored), ErrorKind::kNotFound, folder.string(),
          ": no such folder");
  folder_bytes_ = total_bytes(folder);
  // Checksums of tensors and of files, then values; then those of the source; then the runs.
  total_bytes_ = 3 * folder_bytes_ + (options.run ? kRuns * folder_bytes_ : 0);
  if (options.against.empty()) return;
  require(fs::is_directory(options.against, ignored), ErrorKind::kNotFound,
          options.against.string(), ": no such folder");
  total_bytes_ += total_bytes(options.against);
}

VerifyReport Verification::run() {
  const c10::InferenceMode inference;
  const auto start = std::chrono::steady_clock::now();
  check_files();
  check_tensors();
  compare();
  run_model();
  advance(total_bytes_);  // what was skipped is done too
  report_.problems = problems_.all();
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(report_);
}

void Verification::check(const std::string& name, const std::function<std::int64_t()>& look) {
  const std::size_t before = problems_.count();
  VerifyCheck done{name, look(), 0, ""};
  done.problems = static_cast<std::int64_t>(problems_.count() - before);
  report_.checks.push_back(std::move(done));
}

void Verification::advance(std::int64_t bytes) {
  done_bytes_ = std::min(total_bytes_, done_bytes_ + bytes);
  if (progress_) progress_({done_bytes_ / kMegabyte, total_bytes_ / kMegabyte, "checked MB"});
}

// Everything about the files as such, and opening the model.
void Verification::check_files() {
  WeightFiles weights;
  bool headers_are_whole = true;
  check("headers of weight files", [&] {
    weights = open_weight_files(folder_, problems_);
    headers_are_whole = problems_.count() == 0;
    return static_cast<std::int64_t>(weights.size());
  });
  if (is_own_folder(folder_, weights)) {
    check("checksums of files and tensors", [&] {
      const VerifiedCounts counts = verify_checksums(folder_, weights, problems_, on_bytes_);
      headers_are_whole = headers_are_whole && counts.headers_are_whole;
      return counts.files + counts.tensors;
    });
  } else {
    skip("checksums of files and tensors",
         join("no ", kOwnFile, ": qvlm did not write this folder"));
  }
  if (!headers_are_whole) return skip("configuration files", "headers of weight files are damaged");
  check("configuration files", [&] { return open_model(); });
}

// Configuration, schemes, tokenizer and processor by the loaders that also run the model. A damaged
// config.json would accuse every tensor. Gives the number of loaders that were tried.
std::int64_t Verification::open_model() {
  const bool was_named = problems_.names("config.json");
  std::optional<OpenedModel> opened;
  problems_.attempt_load([&] {
    const Checkpoint checkpoint = Checkpoint::open(folder_);
    opened = OpenedModel{checkpoint, load_model_config(checkpoint),
                         QuantizationConfig::load(checkpoint)};
  });
  if (!opened) return 1;
  problems_.attempt_load([&] { PromptEncoder::load(opened->checkpoint); });
  problems_.attempt_load([&] { load_generation_config(opened->checkpoint); });
  if (!was_named) model_ = std::move(opened);
  return 3;
}

void Verification::check_tensors() {
  const std::string names = "names, shapes and types", codes = "dequantized linears",
                    floats = "float tensors";
  if (!model_) {
    for (const std::string& name : {names, codes, floats})
      skip(name, hindrance());
    return;
  }
  check(names, [&] { return check_tensor_list(*model_, problems_); });
  check(codes, [&] { return check_quantized_linears(*model_, problems_, on_bytes_); });
  check(floats, [&] { return check_float_tensors(*model_, problems_, on_bytes_); });
}

void Verification::compare() {
  if (options_.against.empty()) return;
  const std::string name = "against " + options_.against.string();
  if (!model_) return skip(name, hindrance());
  check(name, [&]() -> std::int64_t {
    std::optional<OpenedModel> source;
    try {
      source = open_source(options_.against, *model_);
    } catch (const Error& error) {
      if (problems_.count() == 0) throw;  // else what was found would be lost
      problems_.add("", "", error.what());
      return 0;
    }
    SourceComparison comparison = compare_with_source(*model_, *source, problems_, on_bytes_);
    report_.linears = std::move(comparison.linears);
    report_.replaced = std::move(comparison.replaced);
    return comparison.compared;
  });
}

void Verification::run_model() {
  const std::string name = "forward passes";
  if (!options_.run) return skip(name, "not asked for");
  if (problems_.count() > 0 || !model_) return skip(name, "the folder is damaged");
  const std::int64_t available = available_memory_bytes(), needed = forward_check_memory(*model_);
  if (available > 0 && needed > available) {
    return skip(name, join("they take about ", needed / kMegabyte, " MB of memory, ",
                           available / kMegabyte, " MB are free"));
  }
  check(name, [&] {
    const ForwardCheck done = check_forward(*model_, problems_, [&] { advance(folder_bytes_); });
    if (model_->quantization) {
      report_.run_difference = done.difference;
      report_.run_bound = done.bound;
    }
    return done.passes;
  });
}

}  // namespace

VerifyReport verify(const fs::path& folder,
                    const VerifyOptions& options,
                    const ProgressCallback& progress) {
  return public_call([&] { return Verification(folder, options, progress).run(); });
}

}  // namespace qvlm
