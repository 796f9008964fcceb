// Recipes as JSON, for qvlm.json.
#include "base/error.h"
#include "io/kv_format.h"
#include "io/scheme_json.h"
#include "pipeline/search_json.h"

namespace qvlm {
namespace {

Json scheme_json(const std::optional<LinearScheme>& scheme) {
  return scheme ? linear_scheme_to_json(*scheme) : Json("float");
}

// Seeds use all 64 bits, JSON's integers are signed.
Json seed_json(std::uint64_t seed) {
  return Json(std::to_string(seed));
}

Json plan_options_json(const PlanOptions& plan) {
  Json json = Json::object();
  json.set("strategy", strategy_name(plan.strategy));
  json.set("max_depth", plan.max_depth);
  json.set("h0", optional_to_json(plan.h0));
  json.set("budget", optional_to_json(plan.budget));
  json.set("budget_share", plan.budget_share);
  json.set("tau", plan.tau);
  json.set("seed", seed_json(plan.seed));
  return json;
}

Json token_weights_json(const TokenWeights& weights) {
  Json json = Json::object();
  json.set("image", weights.image);
  json.set("text", weights.text);
  json.set("answer", weights.answer);
  return json;
}

Json search_options_json(const SearchOptions& search) {
  const char* method = search.method == SearchMethod::kExhaustive ? "exhaustive"
                       : search.method == SearchMethod::kBeam     ? "beam"
                                                                  : "descent";
  Json json = Json::object();
  json.set("method", method);
  json.set("beam_width", search.beam_width);
  json.set("error", search.error == ErrorMeasure::kRelative ? "relative" : "squared");
  json.set("token_weights",
           search.by_gradient ? Json("gradient") : token_weights_json(search.token_weights));
  json.set("activation_clip", list_to_json(search.activation_clip));
  json.set("weight_clip", list_to_json(search.weight_clip));
  json.set("per_linear", search.per_linear);
  json.set("held_out", search.held_out);
  return json;
}

Json vision_options_json(const VisionEncoderOptions& vision) {
  Json json = Json::object();
  json.set("epochs", vision.epochs);
  json.set("batch", vision.batch);
  json.set("rate", vision.rate);
  json.set("entropy_weight", vision.entropy_weight);
  json.set("error_weight", vision.error_weight);
  json.set("tower_weight", vision.tower_weight);
  json.set("output_weight", vision.output_weight);
  json.set("answer_weight", vision.answer_weight);
  json.set("norm_gains", vision.norm_gains);
  json.set("held_out", vision.held_out);
  json.set("seed", seed_json(vision.seed));
  return json;
}

const char* transform_name(const Transform& transform) {
  return std::holds_alternative<SmoothOptions>(transform) ? "smooth"
         : std::holds_alternative<AwqOptions>(transform)  ? "awq"
                                                          : "rotate";
}

Json transform_json(const SmoothOptions& options) {
  Json json = Json::object();
  json.set("alpha", options.alpha ? Json(*options.alpha) : Json("search"));
  return json;
}

Json transform_json(const AwqOptions& /*options*/) {
  return Json::object();
}

Json transform_json(const RotateOptions& options) {
  Json json = Json::object();
  json.set("residual_stream", options.residual_stream ? Json(*options.residual_stream) : Json());
  json.set("values", options.values);
  json.set("down_input", options.down_input);
  json.set("massive_channels", options.massive_apart ? "apart" : "turn");
  json.set("seed", seed_json(options.seed));
  return json;
}

Json transforms_json(const std::vector<Transform>& transforms) {
  Json list = Json::array();
  for (const Transform& transform : transforms) {
    Json entry = Json::object();
    std::visit(
        [&](const auto& options) { entry.set(transform_name(transform), transform_json(options)); },
        transform);
    list.append(entry);
  }
  return list;
}

Json rounding_json(const RoundingOptions& rounding) {
  Json json = Json::object();
  json.set("method", rounding_name(rounding.method));
  json.set("bias_correction", rounding.bias_correction);
  if (rounding.method != RoundingMethod::kGptq) return json;
  json.set("damping", rounding.damping);
  json.set("act_order", rounding.act_order);
  json.set("token_weights", rounding.by_gradient ? "gradient" : "kind");
  return json;
}

Json precision_json(const PrecisionOptions& precision) {
  Json candidates = Json::array();
  for (const LinearScheme& scheme : precision.candidates)
    candidates.append(linear_scheme_to_json(scheme));
  Json json = Json::object();
  json.set("candidates", candidates);
  json.set(precision_target_name(precision.target.kind), precision.target.value);
  json.set("samples", precision.samples);
  return json;
}

}  // namespace

const char* precision_target_name(PrecisionTarget::Kind kind) {
  switch (kind) {
    case PrecisionTarget::Kind::kBitsPerWeight:
      return "target_bpw";
    case PrecisionTarget::Kind::kBytes:
      return "target_bytes";
    case PrecisionTarget::Kind::kActivationBits:
      return "target_activation_bits";
    case PrecisionTarget::Kind::kDivergence:
      return "max_kl";
  }
  return "";
}

const char* rounding_name(RoundingMethod method) {
  return method == RoundingMethod::kGptq ? "gptq" : "nearest";
}

Json recipe_to_json(const Recipe& recipe) {
  Json overrides = Json::array();
  for (const Override& change : recipe.overrides) {
    Json node = Json::object();
    node.set("match", change.pattern);
    node.set("scheme", scheme_json(change.scheme));
    overrides.append(node);
  }
  Json json = Json::object();
  json.set("default", scheme_json(recipe.standard));
  json.set("overrides", overrides);
  json.set("transforms", transforms_json(recipe.transforms));
  json.set("rounding", rounding_json(recipe.rounding));
  if (recipe.precision) json.set("precision", precision_json(*recipe.precision));
  if (recipe.kv_cache) json.set("kv_cache", kv_format_name(*recipe.kv_cache));
  if (!recipe.needs_data()) return json;
  Json calibration = Json::object();
  calibration.set("samples", recipe.calibration.samples);
  calibration.set("seed", seed_json(recipe.calibration.seed));
  json.set("calibration", calibration);
  if (recipe.search) {
    json.set("plan", plan_options_json(recipe.plan));
    json.set("search", search_options_json(*recipe.search));
  }
  if (recipe.vision_encoder)
    json.set("vision_encoder", vision_options_json(*recipe.vision_encoder));
  return json;
}

}  // namespace qvlm
