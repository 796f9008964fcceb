#include "io/quantization_config.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "io/name_pattern.h"
#include "io/scheme_json.h"

namespace qvlm {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kPacked = ".weight_packed";
constexpr std::string_view kScale = ".weight_scale";

// A member of config_groups.
struct Group {
  LinearScheme scheme;
  bool packed = false;  // pack-quantized, else one byte per code
};

struct Target {
  NamePattern pattern;
  Group group;
};

// All of quantization_config that decides about a linear. The map sorts targets as the format's own
// package does, and like there the last group of several with one target wins.
struct Rules {
  std::map<std::string, Target> targets;
  std::vector<NamePattern> ignore;
};

bool is_packed_format(const std::string& format, const std::string& where) {
  if (format == "pack-quantized") return true;
  require(format == "int-quantized" || format == "naive-quantized", ErrorKind::kUnsupported, where,
          ": '", format,
          "' is not supported; supported: pack-quantized, int-quantized, naive-quantized");
  return false;
}

Group parse_group(const Json& node, const Json& config) {
  require(node.is_object(), ErrorKind::kUnsupported, node.where(),
          ": named presets are not supported; supported: a group with targets and weights");
  Group group;
  group.scheme.weight = weight_from_arguments(node.get("weights"));
  const Json activation = node.find("input_activations");
  if (!activation.is_null()) group.scheme.activation = activation_from_arguments(activation);
  require(node.find("output_activations").is_null(), ErrorKind::kUnsupported, node.where(),
          ".output_activations: quantized outputs are not supported");
  const Json own = node.find("format");
  const Json format = own.is_null() ? config.get("format") : own;
  group.packed = is_packed_format(format.as_string(), format.where());
  return group;
}

// What a model could have beside its groups, and what qvlm would compute wrongly.
void check_model_wide(const Json& config) {
  const std::string method = config.get_string("quant_method", "");
  require(method == "compressed-tensors", ErrorKind::kUnsupported, config.where(),
          ".quant_method: '", method, "' is not supported; supported: compressed-tensors");
  const std::string status = config.get_string("quantization_status", "compressed");
  require(status == "compressed", ErrorKind::kUnsupported, config.where(),
          ".quantization_status: '", status, "' is not supported; supported: compressed");
  for (const char* key : {"kv_cache_scheme", "sparsity_config"}) {
    const Json node = config.find(key);
    const bool dense = node.is_object() && node.get_string("format", "") == "dense";
    require(node.is_null() || node.size() == 0 || dense, ErrorKind::kUnsupported, node.where(),
            " is not supported");
  }
}

Rules parse_rules(const Json& config) {
  check_model_wide(config);
  Rules rules;
  config.get("config_groups").for_each([&](const std::string&, const Json& node) {
    const Group group = parse_group(node, config);
    for (const std::string& target : node.get("targets").as_strings()) {
      const std::string where = node.where() + ".targets";
      rules.targets.insert_or_assign(target, Target{NamePattern(target, where), group});
    }
  });
  const Json ignore = config.find("ignore");
  if (ignore.is_null()) return rules;
  for (const std::string& name : ignore.as_strings()) {
    rules.ignore.emplace_back(name, ignore.where());
  }
  return rules;
}

// The group of a linear, or null: exact names before expressions before the class, as the package
// matches.
const Group* find_group(const Rules& rules, const std::vector<std::string>& spellings) {
  const auto fits = [&](const NamePattern& pattern) {
    return std::ranges::any_of(spellings,
                               [&](const std::string& name) { return pattern.matches(name); });
  };
  const auto is_class = [](const NamePattern& pattern) { return pattern.matches("Linear"); };
  for (const NamePattern& pattern : rules.ignore) {
    if (fits(pattern) || (!pattern.is_expression() && is_class(pattern))) return nullptr;
  }
  for (const bool expressions : {false, true}) {
    for (const auto& [text, target] : rules.targets) {
      if (target.pattern.is_expression() == expressions && fits(target.pattern)) {
        return &target.group;
      }
    }
  }
  const auto linear = rules.targets.find("Linear");
  return linear == rules.targets.end() ? nullptr : &linear->second.group;
}

// The files must hold what the rules say about a linear.
void check_storage(const Checkpoint& checkpoint, const std::string& linear, const Group* group) {
  const std::string where =
      checkpoint.folder().string() + ": linear '" + checkpoint.names().module_to_file(linear) + "'";
  const bool packed = checkpoint.find_tensor(linear + std::string(kPacked)).has_value();
  const bool quantized = checkpoint.find_tensor(linear + std::string(kScale)).has_value();
  if (group == nullptr) {
    require(!packed && !quantized, ErrorKind::kCorrupt, where,
            " is quantized in the files, but quantization_config does not target it");
    return;
  }
  require(quantized, ErrorKind::kCorrupt, where,
          " is a target of quantization_config, but the files have no weight_scale for it");
  require(packed == group->packed, ErrorKind::kCorrupt, where, " is declared ",
          group->packed ? "pack-quantized" : "one byte per code",
          ", the files hold the other form");
}

Scheme without_clip(Scheme scheme) {
  scheme.clip_ratio = 1.0;
  return scheme;
}

// qvlm.json adds what quantization_config cannot say; what both say must agree.
void refine(const Json& node, LinearScheme& scheme) {
  const LinearScheme own = linear_scheme_from_json(node);
  require(without_clip(own.weight) == scheme.weight, ErrorKind::kCorrupt, node.where(),
          ".weight contradicts quantization_config in config.json");
  const std::optional<Scheme>& declared = scheme.activation;
  require(!declared || (own.activation && without_clip(*own.activation) == *declared),
          ErrorKind::kCorrupt, node.where(),
          ".activation contradicts quantization_config in config.json");
  scheme = own;
}

void refine_all(const std::filesystem::path& file,
                std::map<std::string, LinearScheme, std::less<>>& linears) {
  const Json document = Json::load(file);
  const std::string format = document.get_string("format");
  require(format == kOwnFormat, ErrorKind::kUnsupported, document.where(), ": format '", format,
          "' is not supported; supported: ", kOwnFormat);
  const Json schemes = document.get("linears");
  require(schemes.size() == linears.size(), ErrorKind::kCorrupt, schemes.where(), ": lists ",
          schemes.size(), " linears, quantization_config in config.json gives ", linears.size());
  schemes.for_each([&](const std::string& name, const Json& node) {
    const auto linear = linears.find(name);
    require(linear != linears.end(), ErrorKind::kCorrupt, node.where(),
            ": not quantized according to quantization_config in config.json");
    refine(node, linear->second);
  });
}

// What happens to inputs while the model runs: without it answers would be wrong. qvlm.json tells
// it; transforms of another program are not known.
void check_transforms(const Json& transforms,
                      bool is_own,
                      const std::map<std::string, LinearScheme, std::less<>>& linears) {
  const bool declared = !transforms.is_null() && transforms.size() > 0;
  require(is_own || !declared, ErrorKind::kUnsupported, transforms.where(), " is not supported");
  const bool transforms_inputs = std::ranges::any_of(
      linears, [](const auto& entry) { return entry.second.hadamard_input.has_value(); });
  require(
      declared == transforms_inputs, ErrorKind::kCorrupt, transforms.where(), ": ", kOwnFile,
      transforms_inputs ? " transforms inputs, this does not" : " transforms no inputs, this does");
}

}  // namespace

std::vector<std::string> find_linears(const Checkpoint& checkpoint) {
  std::set<std::string> linears;
  for (const TensorView& tensor : checkpoint.tensors()) {
    const std::string name = checkpoint.names().to_ours(tensor.name);
    if (name.ends_with(kPacked)) linears.insert(name.substr(0, name.size() - kPacked.size()));
    if (!name.ends_with(kWeight) || tensor.shape.size() != 2) continue;
    const std::string module = name.substr(0, name.size() - kWeight.size());
    const bool embedding =
        module.ends_with("embed_tokens") || module.ends_with("position_embedding");
    if (!embedding) linears.insert(module);
  }
  return {linears.begin(), linears.end()};
}

std::optional<QuantizationConfig> QuantizationConfig::load(const Checkpoint& checkpoint) {
  const Json declared = checkpoint.config().find("quantization_config");
  if (declared.is_null()) return std::nullopt;
  const Rules rules = parse_rules(declared);
  QuantizationConfig config;
  for (const std::string& linear : find_linears(checkpoint)) {
    std::vector<std::string> spellings = NameMap::all_module_spellings(linear);
    spellings.push_back(checkpoint.names().module_to_file(linear));
    const Group* group = find_group(rules, spellings);
    check_storage(checkpoint, linear, group);
    if (group != nullptr) config.linears_.emplace(linear, group->scheme);
  }
  require(!config.linears_.empty(), ErrorKind::kCorrupt, declared.where(),
          ": no linear of the model is a target");
  const std::filesystem::path own = checkpoint.folder() / kOwnFile;
  const bool is_own = std::filesystem::exists(own);
  if (is_own) refine_all(own, config.linears_);
  check_transforms(declared.find("transform_config"), is_own, config.linears_);
  return config;
}

std::optional<LinearScheme> QuantizationConfig::find(std::string_view linear) const {
  const auto found = linears_.find(linear);
  if (found == linears_.end()) return std::nullopt;
  return found->second;
}

}  // namespace qvlm
