#include "eval/source_comparison.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/quantized_checkpoint.h"
#include "io/scheme.h"
#include "model/linear_list.h"
#include "model/tensor_list.h"
#include "quant/quantized_tensor.h"
#include "quant/weight_error.h"
#include "tensor/file_tensor.h"

namespace qvlm {
namespace {

constexpr const char* kWeight = ".weight";

// Sums of one order give the same number on every machine but for contraction of products; a
// document holds every digit. One code off by one in a million changes an error of 1e-5 by more.
constexpr double kSameError = 1e-6;

// Codes that say nothing about a weight, all zero, have an error of 1; those of another model's
// weight about 2.
constexpr double kUnrelated = 0.9;

class SourceCheck {
 public:
  SourceCheck(const OpenedModel& model,
              const OpenedModel& source,
              ProblemList& problems,
              const BytesRead& on_bytes);

  SourceComparison run();

 private:
  void compare_linear(const LinearShape& linear, const LinearScheme& scheme);
  void compare_tensor(const TensorView& source);
  void find_added_tensors();
  void report_difference(const std::string& file_name, const std::string& text);

  const OpenedModel& model_;
  const OpenedModel& source_;
  ProblemList& problems_;
  const BytesRead& on_bytes_;
  Json errors_;                     // of qvlm.json, by our names; null: it tells none
  std::set<std::string> replaced_;  // of qvlm.json, by our names
  std::vector<VerifyProblem> differences_;
  SourceComparison result_;
};

SourceCheck::SourceCheck(const OpenedModel& model,
                         const OpenedModel& source,
                         ProblemList& problems,
                         const BytesRead& on_bytes)
    : model_(model), source_(source), problems_(problems), on_bytes_(on_bytes) {
  const std::filesystem::path file = model.checkpoint.folder() / kOwnFile;
  if (!std::filesystem::exists(file)) return;
  problems.attempt(kOwnFile, "", [&] {
    const Json document = Json::load(file);
    errors_ = document.find(kRelativeErrors);
    const Json replaced = document.find(kReplaced);
    if (replaced.is_null()) return;
    const std::vector<std::string> names = replaced.as_strings();
    replaced_ = {names.begin(), names.end()};
  });
}

SourceComparison SourceCheck::run() {
  for (const LinearShape& linear : list_linears(model_.config)) {
    const std::optional<LinearScheme> scheme = model_.find_scheme(linear.name);
    if (scheme && source_.checkpoint.find_tensor(linear.name + kWeight))
      compare_linear(linear, *scheme);
  }
  for (const TensorView& tensor : source_.checkpoint.tensors())
    compare_tensor(tensor);
  find_added_tensors();
  const bool another = 2 * static_cast<std::int64_t>(differences_.size()) > result_.compared;
  if (!another) {
    for (const VerifyProblem& difference : differences_)
      problems_.add(difference.file, difference.tensor, difference.problem);
    return std::move(result_);
  }
  const std::string text =
      join(source_.checkpoint.folder().string(), ": is not the model that ",
           model_.checkpoint.folder().string(), " was made of: ", differences_.size(), " of ",
           result_.compared, " tensors differ, the first is '", differences_.front().tensor, "'");
  require(problems_.count() > 0, ErrorKind::kInvalidArgument, text);
  problems_.add("", "", text);
  return std::move(result_);
}

void SourceCheck::report_difference(const std::string& file_name, const std::string& text) {
  differences_.push_back({weight_file_of(model_.checkpoint, file_name), file_name, text});
}

void SourceCheck::compare_linear(const LinearShape& linear, const LinearScheme& scheme) {
  // A weight that was transformed before it was rounded says nothing beside the source's.
  if (replaced_.contains(linear.name + kWeight)) {
    result_.replaced.push_back(model_.checkpoint.names().to_file(linear.name + kWeight));
    return;
  }
  const TensorView view = source_.checkpoint.get_tensor(linear.name + kWeight);
  VerifiedLinear verified{linear.name, describe(scheme), 0.0, {}};
  const std::string scale = model_.checkpoint.names().to_file(linear.name + ".weight_scale");
  try {
    const QuantizedWeight weight =
        load_quantized_weight(model_.checkpoint, linear.name, scheme.weight);
    require(std::vector{weight.out, weight.in} == view.shape, ErrorKind::kCorrupt,
            "has another shape than the weight in ", source_.checkpoint.folder().string());
    verified.relative_error =
        relative_error(to_quantized_tensor(weight).dequantize(), to_float32(view));
  } catch (const Error& error) {
    problems_.accept(error, weight_file_of(model_.checkpoint, scale), scale);
    return;
  }
  ++result_.compared;
  const Json recorded = errors_.find(linear.name);
  if (recorded.is_number()) verified.recorded = recorded.as_double();
  const double error = verified.relative_error;
  if (verified.recorded &&
      !(std::abs(error - *verified.recorded) <= kSameError * (error + 1e-30))) {
    report_difference(scale, join("relative error of the linear is ", error, ", ", kOwnFile,
                                  " says ", *verified.recorded));
  } else if (!(error < kUnrelated)) {
    report_difference(scale, join("relative error of the linear is ", error));
  }
  result_.linears.push_back(std::move(verified));
  drop_pages(view.bytes);
  on_bytes_(static_cast<std::int64_t>(view.bytes.size()));
}

void SourceCheck::compare_tensor(const TensorView& source) {
  const std::string ours = source_.checkpoint.names().to_ours(source.name);
  if (ours.ends_with(kWeight) &&
      model_.find_scheme(ours.substr(0, ours.size() - std::string_view(kWeight).size())))
    return;
  const std::string name = model_.checkpoint.names().to_file(ours);
  const std::optional<TensorView> tensor = model_.checkpoint.find_tensor(ours);
  if (replaced_.contains(ours)) {
    result_.replaced.push_back(name);
  } else if (!tensor) {
    if (!is_unread_tensor(ours, model_.config))
      problems_.add(weight_file_of(model_.checkpoint, name), name,
                    join("is missing; ", source_.checkpoint.folder().string(), " has it"));
  } else {
    ++result_.compared;
    const bool same = tensor->dtype == source.dtype && tensor->shape == source.shape &&
                      std::ranges::equal(tensor->bytes, source.bytes);
    if (!same)
      report_difference(name, join("was not quantized but differs from the one in ",
                                   source_.checkpoint.folder().string()));
  }
  drop_pages(source.bytes);
  on_bytes_(static_cast<std::int64_t>(source.bytes.size()));
}

// Tensors, linears among them, that the source does not have.
void SourceCheck::find_added_tensors() {
  for (const TensorView& tensor : model_.checkpoint.tensors()) {
    const std::string ours = model_.checkpoint.names().to_ours(tensor.name);
    const std::string linear = ours.substr(0, ours.rfind('.'));
    const bool stored = model_.find_scheme(linear) && !ours.ends_with(".bias");
    if (!source_.checkpoint.find_tensor(stored ? linear + kWeight : ours) &&
        !is_unread_tensor(ours, model_.config))
      problems_.add(weight_file_of(model_.checkpoint, tensor.name), tensor.name,
                    join("is not in ", source_.checkpoint.folder().string()));
  }
}

}  // namespace

OpenedModel open_source(const std::filesystem::path& source, const OpenedModel& model) {
  const Checkpoint checkpoint = Checkpoint::open(source);
  OpenedModel opened{checkpoint, load_model_config(checkpoint),
                     QuantizationConfig::load(checkpoint)};
  require(!opened.quantization, ErrorKind::kInvalidArgument, source.string(),
          ": is quantized; a folder is compared with the float model that it was made of");
  const auto want = list_tensors(model.config), got = list_tensors(opened.config);
  for (const auto& [name, shape] : want) {
    const auto found = got.find(name);
    require(found != got.end() && found->second == shape, ErrorKind::kInvalidArgument,
            source.string(), ": is not the model that ", model.checkpoint.folder().string(),
            " was made of: '", name, "' has another shape or is missing");
  }
  require(want.size() == got.size(), ErrorKind::kInvalidArgument, source.string(),
          ": is not the model that ", model.checkpoint.folder().string(), " was made of: it has ",
          got.size(), " tensors instead of ", want.size());
  return opened;
}

SourceComparison compare_with_source(const OpenedModel& model,
                                     const OpenedModel& source,
                                     ProblemList& problems,
                                     const BytesRead& on_bytes) {
  return SourceCheck(model, source, problems, on_bytes).run();
}

}  // namespace qvlm
