#include "io/declare_quantization.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/name_pattern.h"
#include "io/quantized_checkpoint.h"
#include "io/scheme_json.h"

namespace qvlm {
namespace {

// Expressions match a module in all layouts of its name, because readers match against the names in
// memory, which differ from those in the files.
struct Part {
  std::string_view prefix;      // ours
  std::string_view expression;  // in place of the prefix
  std::string_view whole;       // ignores the whole part
};

constexpr std::array<Part, 4> kParts = {{
    {"vision_tower.", R"((model\.)?vision_tower\.(vision_model\.)?)", "re:.*vision_tower.*"},
    {"projector.", R"((model\.)?multi_modal_projector\.)", "re:.*multi_modal_projector.*"},
    {"decoder.", R"((model\.)?language_model\.(model\.)?)",
     R"(re:(model\.)?language_model\.(model\.)?layers\..*)"},
    {"lm_head", R"((language_model\.)?lm_head)", "re:.*lm_head"},
}};

std::string expression_of(std::string_view linear) {
  for (const Part& part : kParts) {
    if (!linear.starts_with(part.prefix)) continue;
    return "re:" + std::string(part.expression) +
           escape_expression(linear.substr(part.prefix.size())) + "$";
  }
  return "re:" + escape_expression(linear) + "$";
}

// One group of config_groups without its targets.
Json describe_group(const LinearScheme& scheme) {
  const bool packed = is_stored_packed(scheme);
  const bool w8a8 = !packed && scheme.weight.bits == 8;
  Json weights = arguments_to_json(scheme.weight);
  weights.set("actorder", Json());
  Json group = Json::object();
  group.set("weights", weights);
  group.set("input_activations", w8a8 ? arguments_to_json(*scheme.activation) : Json());
  group.set("output_activations", Json());
  group.set("format", packed ? "pack-quantized" : "int-quantized");
  return group;
}

// Ignored are the linears without a scheme: by expressions and, for readers that compare names,
// literally.
Json list_ignored(const Checkpoint& source, const LinearSchemes& linears) {
  std::vector<std::string> floats;
  for (const std::string& linear : find_linears(source)) {
    if (!linears.contains(linear)) floats.push_back(linear);
  }
  Json ignore = Json::array();
  std::vector<std::string> rest = floats;
  for (const Part& part : kParts) {
    const auto inside = [&](std::string_view name) { return name.starts_with(part.prefix); };
    const auto quantized = [&](const auto& entry) { return inside(entry.first); };
    if (std::ranges::any_of(linears, quantized)) continue;
    ignore.append(part.whole);
    std::erase_if(rest, inside);
  }
  for (const std::string& linear : rest)
    ignore.append(expression_of(linear));
  for (const std::string& linear : floats) {
    ignore.append(source.names().module_to_file(linear));
  }
  return ignore;
}

// Transforms of inputs while the model runs, by what they are; weights are stored transformed. The
// format knows Sylvester's matrices; a reader that does not know a type refuses it, which is better
// than wrong answers.
Json describe_transforms(const LinearSchemes& linears) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::string>> members;
  for (const auto& [linear, scheme] : linears) {
    if (scheme.hadamard_input)
      members[{scheme.hadamard_input->width, scheme.hadamard_input->order}].push_back(linear);
  }
  Json groups = Json::object();
  for (const auto& [key, names] : members) {
    const auto [width, order] = key;
    Json targets = Json::array();
    for (const std::string& linear : names)
      targets.append(expression_of(linear));
    Json apply = Json::object();
    apply.set("targets", targets);
    apply.set("location", "input");
    Json list = Json::array();
    list.append(apply);
    Json group = Json::object();
    group.set("type", order == 1 ? "hadamard" : join("qvlm-hadamard-", order));
    group.set("head_dim", width);
    group.set("apply", list);
    groups.set(join("hadamard_", width, "_", order), group);
  }
  return groups;
}

}  // namespace

Json make_quantization_config(const Checkpoint& source, const LinearSchemes& linears) {
  // Groups by their text, so that linears that differ only in what is not declared share one.
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const auto& [linear, scheme] : linears) {
    const std::string text = describe_group(scheme).dump();
    auto group = std::ranges::find(groups, text, [](const auto& entry) { return entry.first; });
    if (group == groups.end()) group = groups.insert(group, {text, {}});
    group->second.push_back(linear);
  }
  Json config_groups = Json::object();
  bool mixed = false;
  std::string format;
  for (const auto& [text, members] : groups) {
    Json group = Json::object();
    Json targets = Json::array();
    if (groups.size() == 1) targets.append("Linear");
    for (const std::string& linear : members) {
      if (groups.size() > 1) targets.append(expression_of(linear));
    }
    group.set("targets", targets);
    Json::parse(text, "group").for_each([&](const std::string& key, const Json& value) {
      group.set(key, value);
    });
    mixed = mixed || (!format.empty() && format != group.get_string("format"));
    format = group.get_string("format");
    config_groups.set("group_" + std::to_string(config_groups.size()), group);
  }
  Json config = Json::object();
  config.set("quant_method", "compressed-tensors");
  config.set("format", mixed ? "mixed-precision" : format);
  config.set("quantization_status", "compressed");
  config.set("global_compression_ratio", Json());
  config.set("kv_cache_scheme", Json());
  config.set("ignore", list_ignored(source, linears));
  config.set("config_groups", config_groups);
  if (const Json transforms = describe_transforms(linears); transforms.size() > 0) {
    Json transform_config = Json::object();
    transform_config.set("config_groups", transforms);
    config.set("transform_config", transform_config);
  }
  return config;
}

}  // namespace qvlm
