#include "pipeline/recipe_search_file.h"

#include "planner/partition.h"
#include "search/candidates.h"

namespace qvlm {
namespace {

constexpr double kAnyWeight = 1e6;

CalibrationOptions read_calibration(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'calibration'", {"samples", "seed"});
  CalibrationOptions options;
  options.samples =
      yaml.number<std::int64_t>(node, "samples", options.samples, 1, std::int64_t{1} << 30);
  options.seed = yaml.optional<std::uint64_t>(node, "seed", options.seed);
  return options;
}

std::optional<double> read_optional(const YamlReader& yaml,
                                    const YAML::Node& node,
                                    const char* key) {
  if (!node[key].IsDefined()) return std::nullopt;
  return yaml.value<double>(node[key], key);
}

PlanOptions read_plan(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'plan'",
                  {"strategy", "max_depth", "h0", "budget", "budget_share", "tau", "seed"});
  PlanOptions options;
  const auto name = yaml.optional<std::string>(node, "strategy", "entropy");
  const std::optional<PlanStrategy> strategy = find_strategy(name);
  if (!strategy)
    fail(ErrorKind::kInvalidArgument, yaml.where(node["strategy"]), "unknown strategy '", name,
         "'; known are ", kStrategyNames);
  options.strategy = *strategy;
  options.max_depth = yaml.number(node, "max_depth", options.max_depth, 1, 8);
  options.h0 = read_optional(yaml, node, "h0");
  options.budget = read_optional(yaml, node, "budget");
  const int limits = int(options.h0.has_value()) + int(options.budget.has_value()) +
                     int(node["budget_share"].IsDefined());
  require(limits <= 1, ErrorKind::kInvalidArgument, yaml.where(node),
          "give one of h0, budget and budget_share");
  options.budget_share = yaml.number(node, "budget_share", options.budget_share, 0.0, 1.0);
  options.tau = yaml.number(node, "tau", options.tau, 1e-3, 1e3);
  options.seed = yaml.optional<std::uint64_t>(node, "seed", options.seed);
  return options;
}

TokenWeights read_token_weights(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'token_weights'", {"image", "text", "answer"});
  TokenWeights weights;
  weights.image = yaml.number(node, "image", weights.image, 0.0, kAnyWeight);
  weights.text = yaml.number(node, "text", weights.text, 0.0, kAnyWeight);
  weights.answer = yaml.number(node, "answer", weights.answer, 0.0, kAnyWeight);
  require(weights.image + weights.text + weights.answer > 0.0, ErrorKind::kInvalidArgument,
          yaml.where(node), "'token_weights': one has to be above 0");
  return weights;
}

SearchOptions read_search(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'search'",
                  {"method", "beam_width", "error", "token_weights", "activation_clip",
                   "weight_clip", "per_linear", "held_out"});
  SearchOptions options;
  options.method = yaml.choice<SearchMethod>(node, "method",
                                             {{"exhaustive", SearchMethod::kExhaustive},
                                              {"beam", SearchMethod::kBeam},
                                              {"descent", SearchMethod::kDescent}},
                                             options.method);
  options.beam_width = yaml.number(node, "beam_width", options.beam_width, 1, 1024);
  options.error = yaml.choice<ErrorMeasure>(
      node, "error", {{"relative", ErrorMeasure::kRelative}, {"squared", ErrorMeasure::kSquared}},
      options.error);
  if (const YAML::Node weights = node["token_weights"]) {
    options.by_gradient = weights.IsScalar() && weights.Scalar() == "gradient";
    if (!options.by_gradient) options.token_weights = read_token_weights(yaml, weights);
  }
  options.activation_clip =
      yaml.optional<std::vector<double>>(node, "activation_clip", options.activation_clip);
  options.weight_clip =
      yaml.optional<std::vector<double>>(node, "weight_clip", options.weight_clip);
  options.per_linear = yaml.optional<bool>(node, "per_linear", options.per_linear);
  options.held_out = yaml.optional<bool>(node, "held_out", options.held_out);
  try {
    const Candidates checked(options, /*inputs=*/1);
  } catch (const Error& error) {
    fail(error.kind(), yaml.where(node), error.what());
  }
  return options;
}

VisionEncoderOptions read_vision_encoder(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'vision_encoder'",
                  {"epochs", "batch", "rate", "entropy_weight", "error_weight", "tower_weight",
                   "output_weight", "answer_weight", "norm_gains", "held_out", "seed"});
  VisionEncoderOptions options;
  options.epochs = yaml.number(node, "epochs", options.epochs, 1, 100000);
  options.batch = yaml.number(node, "batch", options.batch, 1, 100000);
  options.rate = yaml.number(node, "rate", options.rate, 0.0, 1.0);
  const auto weight = [&](const char* key, double otherwise) {
    return yaml.number(node, key, otherwise, -kAnyWeight, kAnyWeight);
  };
  options.entropy_weight = weight("entropy_weight", options.entropy_weight);
  options.error_weight = weight("error_weight", options.error_weight);
  options.tower_weight = weight("tower_weight", options.tower_weight);
  options.output_weight = weight("output_weight", options.output_weight);
  options.answer_weight = weight("answer_weight", options.answer_weight);
  options.norm_gains = yaml.optional<bool>(node, "norm_gains", options.norm_gains);
  options.held_out = yaml.optional<bool>(node, "held_out", options.held_out);
  options.seed = yaml.optional<std::uint64_t>(node, "seed", options.seed);
  return options;
}

}  // namespace

void read_search_options(const YamlReader& yaml, const YAML::Node& root, Recipe& recipe) {
  if (const YAML::Node node = root["calibration"])
    recipe.calibration = read_calibration(yaml, node);
  if (const YAML::Node node = root["plan"]) recipe.plan = read_plan(yaml, node);
  if (const YAML::Node node = root["search"]) recipe.search = read_search(yaml, node);
  if (const YAML::Node node = root["vision_encoder"])
    recipe.vision_encoder = read_vision_encoder(yaml, node);
  const bool unused = !recipe.needs_data() && (root["calibration"] || root["plan"]);
  require(!unused, ErrorKind::kInvalidArgument, yaml.file(),
          ": 'calibration' and 'plan' go with what looks at data: 'search', 'vision_encoder', "
          "smooth, gptq, precision");
}

}  // namespace qvlm
