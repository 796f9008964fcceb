#include "pipeline/vision_run.h"

#include "base/error.h"
#include "search/vision_encoder.h"

namespace qvlm {
namespace {

// Doubles come back from JSON as they were.
Json tensor_to_json(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).contiguous();
  Json values = Json::array();
  for (std::int64_t i = 0; i < flat.numel(); ++i)
    values.append(flat.const_data_ptr<double>()[i]);
  return values;
}

at::Tensor tensor_from_json(const Json& node) {
  std::vector<double> values;
  for (std::size_t i = 0; i < node.size(); ++i)
    values.push_back(node.at(i).as_double());
  return at::tensor(values, at::kDouble);
}

Json tensors_to_json(const std::vector<at::Tensor>& tensors) {
  Json list = Json::array();
  for (const at::Tensor& tensor : tensors)
    list.append(tensor_to_json(tensor));
  return list;
}

std::vector<at::Tensor> tensors_from_json(const Json& list) {
  std::vector<at::Tensor> tensors;
  for (std::size_t i = 0; i < list.size(); ++i)
    tensors.push_back(tensor_from_json(list.at(i)));
  return tensors;
}

Json to_json(const VisionEncoderState& state) {
  Json json = Json::object();
  json.set("logarithms", tensors_to_json(state.logarithms));
  json.set("steps", state.adam.steps);
  json.set("means", tensors_to_json(state.adam.means));
  json.set("squares", tensors_to_json(state.adam.squares));
  json.set("report", vision_to_json(state.report));
  return json;
}

// What an unfinished run left, or the beginning.
VisionEncoderState state_from_json(const Json& json) {
  if (json.is_null()) return {};
  return {tensors_from_json(json.get("logarithms")),
          {static_cast<int>(json.get_int("steps")), tensors_from_json(json.get("means")),
           tensors_from_json(json.get("squares"))},
          vision_from_json(json.get("report"))};
}

Json to_json(const VisionRun& run) {
  Json clips = Json::object(), gains = Json::object();
  for (const auto& [name, scheme] : run.schemes) {
    Json node = Json::object();
    node.set("weight", scheme.weight.clip_ratio);
    if (scheme.activation) node.set("activation", scheme.activation->clip_ratio);
    clips.set(name, node);
  }
  for (const auto& [name, gain] : run.norm_gains)
    gains.set(name, tensor_to_json(gain));
  Json json = Json::object();
  json.set("clips", clips);
  json.set("norm_gains", gains);
  json.set("report", vision_to_json(run.report));
  return json;
}

VisionRun from_json(const Json& json, const LinearSchemes& schemes) {
  VisionRun run;
  json.get("clips").for_each([&](const std::string& name, const Json& node) {
    const auto found = schemes.find(name);
    require(found != schemes.end(), ErrorKind::kCorrupt, node.where(), ": is not quantized");
    LinearScheme& scheme = run.schemes[name] = found->second;
    scheme.weight.clip_ratio = node.get_double("weight");
    if (scheme.activation) scheme.activation->clip_ratio = node.get_double("activation");
  });
  json.get("norm_gains").for_each([&](const std::string& name, const Json& node) {
    run.norm_gains[name] = tensor_from_json(node).to(at::kFloat);
  });
  run.report = vision_from_json(json.get("report"));
  return run;
}

}  // namespace

VisionRun run_vision_encoder(const Weights& root,
                             const ModelConfig& config,
                             const Recipe& recipe,
                             const LinearSchemes& schemes,
                             const CalibrationSamples& samples,
                             SearchJournal& journal,
                             const std::function<bool()>& stop_requested,
                             const ProgressCallback& progress) {
  if (journal.vision().contains("clips")) return from_json(journal.vision(), schemes);
  VisionEncoderStudy study{root,
                           config,
                           schemes,
                           samples.samples,
                           samples.kinds,
                           *recipe.vision_encoder,
                           recipe.plan.tau,
                           {}};
  const VisionEncoderState start = state_from_json(journal.vision());
  const std::int64_t total = count_steps(study, start);
  std::int64_t done = 0;
  study.on_step = [&](const std::string& what) {
    if (progress) progress({++done, total, what});
  };
  VisionEncoderOutcome outcome =
      optimize_vision_encoder(study, start, [&](const VisionEncoderState& state) {
        journal.set_vision(to_json(state));
        return !stop_requested || !stop_requested();
      });
  if (outcome.stopped) return {.stopped = true};
  journal.set_vision(to_json(
      {std::move(outcome.schemes), std::move(outcome.norm_gains), std::move(outcome.report)}));
  // Read back, so that a resumed run has the very same numbers.
  return from_json(journal.vision(), schemes);
}

}  // namespace qvlm
