#include "pipeline/vision_run.h"

#include "base/error.h"
#include "search/vision_encoder.h"

namespace qvlm {
namespace {

Json gain_to_json(const at::Tensor& gain) {
  const at::Tensor flat = gain.to(at::kFloat).contiguous();
  Json values = Json::array();
  for (std::int64_t i = 0; i < flat.numel(); ++i)
    values.append(static_cast<double>(flat.const_data_ptr<float>()[i]));
  return values;
}

at::Tensor gain_from_json(const Json& node) {
  std::vector<float> values;
  for (std::size_t i = 0; i < node.size(); ++i)
    values.push_back(static_cast<float>(node.at(i).as_double()));
  return at::tensor(values);
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
    gains.set(name, gain_to_json(gain));
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
    run.norm_gains[name] = gain_from_json(node);
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
                             const ProgressCallback& progress) {
  if (!journal.vision().is_null()) return from_json(journal.vision(), schemes);
  VisionEncoderStudy study{root,
                           config,
                           schemes,
                           samples.samples,
                           samples.kinds,
                           *recipe.vision_encoder,
                           recipe.plan.tau,
                           {}};
  study.on_step = [&progress, done = std::int64_t{0},
                   total = count_steps(study)](const std::string& what) mutable {
    if (progress) progress({++done, total, what});
  };
  VisionEncoderOutcome outcome = optimize_vision_encoder(study);
  journal.set_vision(to_json(
      {std::move(outcome.schemes), std::move(outcome.norm_gains), std::move(outcome.report)}));
  // Read back, so that a resumed run has the very same numbers.
  return from_json(journal.vision(), schemes);
}

}  // namespace qvlm
