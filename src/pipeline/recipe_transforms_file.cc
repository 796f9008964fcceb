#include "pipeline/recipe_transforms_file.h"

#include "pipeline/recipe.h"

namespace qvlm {
namespace {

SmoothOptions read_smooth(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'smooth'", {"alpha"});
  SmoothOptions options;
  const YAML::Node alpha = node["alpha"];
  if (alpha.IsDefined() && alpha.IsScalar() && alpha.Scalar() == "search") {
    options.alpha.reset();
  } else {
    options.alpha = yaml.number(node, "alpha", *options.alpha, kAlphaRange.low, kAlphaRange.high);
  }
  return options;
}

AwqOptions read_awq(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'awq'", {});
  return {};
}

RotateOptions read_rotate(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'rotate'",
                  {"residual_stream", "values", "down_input", "massive_channels", "seed"});
  RotateOptions options;
  if (node["residual_stream"].IsDefined())
    options.residual_stream = yaml.required<bool>(node, "residual_stream");
  options.values = yaml.optional<bool>(node, "values", options.values);
  options.down_input = yaml.optional<bool>(node, "down_input", options.down_input);
  options.massive_apart = yaml.choice<bool>(
      node, "massive_channels", {{"turn", false}, {"apart", true}}, options.massive_apart);
  options.seed = yaml.optional<std::uint64_t>(node, "seed", options.seed);
  require(options.residual_stream.value_or(true) || options.values || options.down_input,
          ErrorKind::kInvalidArgument, yaml.where(node), "'rotate' turns nothing");
  return options;
}

Transform read_transform(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "a transform", {"smooth", "awq", "rotate"});
  require(node.size() == 1, ErrorKind::kInvalidArgument, yaml.where(node),
          "one transform an entry of the list");
  if (const YAML::Node smooth = node["smooth"]) return read_smooth(yaml, smooth);
  if (const YAML::Node awq = node["awq"]) return read_awq(yaml, awq);
  return read_rotate(yaml, node["rotate"]);
}

RoundingOptions read_rounding(const YamlReader& yaml, const YAML::Node& node) {
  yaml.check_keys(node, "'rounding'",
                  {"method", "damping", "act_order", "token_weights", "bias_correction"});
  RoundingOptions options;
  options.method = yaml.choice<RoundingMethod>(
      node, "method", {{"nearest", RoundingMethod::kNearest}, {"gptq", RoundingMethod::kGptq}},
      options.method);
  options.damping =
      yaml.number(node, "damping", options.damping, kDampingRange.low, kDampingRange.high);
  options.act_order = yaml.optional<bool>(node, "act_order", options.act_order);
  options.by_gradient = yaml.choice<bool>(
      node, "token_weights", {{"kind", false}, {"gradient", true}}, options.by_gradient);
  options.bias_correction = yaml.optional<bool>(node, "bias_correction", options.bias_correction);
  return options;
}

}  // namespace

void read_transforms(const YamlReader& yaml, const YAML::Node& root, Recipe& recipe) {
  if (const YAML::Node list = root["transforms"]) {
    require(list.IsSequence(), ErrorKind::kInvalidArgument, yaml.where(list),
            "'transforms' must be a list");
    for (const YAML::Node& entry : list)
      recipe.transforms.push_back(read_transform(yaml, entry));
  }
  if (const YAML::Node node = root["rounding"]) recipe.rounding = read_rounding(yaml, node);
}

}  // namespace qvlm
