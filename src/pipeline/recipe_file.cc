// Reads recipes from YAML. Every key is checked: a misspelt one is an error that names file, line
// and key.
#include <string>

#include "base/error.h"
#include "io/kv_format.h"
#include "io/scheme.h"
#include "pipeline/recipe.h"
#include "pipeline/recipe_search_file.h"
#include "pipeline/recipe_transforms_file.h"

namespace qvlm {
namespace {

class RecipeReader : private YamlReader {
 public:
  using YamlReader::YamlReader;

  Recipe read() const {
    const YAML::Node root = parse();
    check_keys(root, "the recipe",
               {"name", "description", "default", "overrides", "transforms", "rounding",
                "precision", "calibration", "plan", "search", "vision_encoder", "kv_cache"});
    Recipe recipe;
    recipe.name = required<std::string>(root, "name");
    recipe.description = optional<std::string>(root, "description", "");
    if (const YAML::Node standard = root["default"]) {
      check_keys(standard, "'default'", {"weight", "activation"});
      recipe.standard = linear_scheme(standard);
    }
    if (const YAML::Node overrides = root["overrides"]) {
      require(overrides.IsSequence(), ErrorKind::kInvalidArgument, where(overrides),
              "'overrides' must be a list");
      for (const YAML::Node& entry : overrides)
        recipe.overrides.push_back(override_of(entry));
    }
    read_transforms(*this, root, recipe);
    if (const YAML::Node node = root["precision"]) recipe.precision = precision_options(node);
    read_search_options(*this, root, recipe);
    if (const YAML::Node node = root["kv_cache"]) {
      recipe.kv_cache = find_kv_format(required<std::string>(root, "kv_cache"));
      require(recipe.kv_cache.has_value(), ErrorKind::kInvalidArgument, where(node),
              "unknown kv_cache; known are ", kKvFormatNames);
    }
    require(recipe.standard || !recipe.overrides.empty(), ErrorKind::kInvalidArgument, file(),
            ": expected 'default' or 'overrides'; without both nothing would be quantized");
    return recipe;
  }

 private:
  Override override_of(const YAML::Node& node) const {
    Override change;
    require(node.IsMap(), ErrorKind::kInvalidArgument, where(node),
            "an override must be a mapping with 'match'");
    change.pattern = required<std::string>(node, "match");
    if (!node["keep"]) {
      check_keys(node, "an override", {"match", "keep", "weight", "activation"});
      change.scheme = linear_scheme(node);
      return change;
    }
    check_keys(node, "an override with 'keep'", {"match", "keep"});
    require(required<std::string>(node, "keep") == "float", ErrorKind::kInvalidArgument,
            where(node["keep"]), "'keep' can only be float");
    return change;
  }

  PrecisionOptions precision_options(const YAML::Node& node) const {
    check_keys(node, "'precision'",
               {"candidates", "target_bpw", "target_bytes", "target_activation_bits", "max_kl",
                "samples"});
    PrecisionOptions options;
    const YAML::Node list = node["candidates"];
    require(list.IsDefined() && list.IsSequence() && list.size() > 0, ErrorKind::kInvalidArgument,
            where(node), "'precision' needs 'candidates', a list of schemes");
    for (const YAML::Node& entry : list) {
      check_keys(entry, "a candidate", {"weight", "activation"});
      options.candidates.push_back(linear_scheme(entry));
    }
    options.target = precision_target(node);
    options.samples =
        number<std::int64_t>(node, "samples", options.samples, 1, std::int64_t{1} << 30);
    return options;
  }

  PrecisionTarget precision_target(const YAML::Node& node) const {
    using Kind = PrecisionTarget::Kind;
    std::vector<PrecisionTarget> targets;
    for (const auto& [key, kind] : {std::pair{"target_bpw", Kind::kBitsPerWeight},
                                    {"target_bytes", Kind::kBytes},
                                    {"target_activation_bits", Kind::kActivationBits},
                                    {"max_kl", Kind::kDivergence}}) {
      if (!node[key].IsDefined()) continue;
      const NumberRange range = target_range(kind);
      targets.push_back({kind, number(node, key, range.low, range.low, range.high)});
    }
    require(targets.size() == 1, ErrorKind::kInvalidArgument, where(node),
            "give one of target_bpw, target_bytes, target_activation_bits and max_kl");
    return targets.front();
  }

  LinearScheme linear_scheme(const YAML::Node& node) const {
    require(node["weight"].IsDefined(), ErrorKind::kInvalidArgument, where(node),
            "the key 'weight' is missing");
    LinearScheme scheme{weight_scheme(node["weight"]), {}};
    if (const YAML::Node activation = node["activation"])
      scheme.activation = activation_scheme(activation);
    return scheme;
  }

  Scheme weight_scheme(const YAML::Node& node) const {
    check_keys(node, "'weight'", {"bits", "granularity", "group_size", "symmetric", "clip_ratio"});
    Scheme scheme = common(node, "channel");
    scheme.group_size = optional<int>(node, "group_size", 0);
    check_weight_scheme(scheme, where(node) + "weight");
    return scheme;
  }

  Scheme activation_scheme(const YAML::Node& node) const {
    check_keys(node, "'activation'", {"bits", "granularity", "symmetric", "clip_ratio"});
    Scheme scheme = common(node, "token");
    scheme.dynamic = scheme.granularity == Granularity::kToken;
    check_activation_scheme(scheme, where(node) + "activation");
    return scheme;
  }

  Scheme common(const YAML::Node& node, const char* granularity) const {
    Scheme scheme;
    scheme.bits = required<int>(node, "bits");
    scheme.symmetric = optional<bool>(node, "symmetric", true);
    scheme.clip_ratio = optional<double>(node, "clip_ratio", 1.0);
    scheme.granularity =
        granularity_of(node, optional<std::string>(node, "granularity", granularity));
    return scheme;
  }

  Granularity granularity_of(const YAML::Node& node, const std::string& name) const {
    if (const std::optional<Granularity> known = find_granularity(name)) return *known;
    fail(ErrorKind::kInvalidArgument, where(node["granularity"]), "unknown granularity '", name,
         "'; known are ", kGranularityNames);
  }
};

}  // namespace

Recipe Recipe::load(const std::filesystem::path& file) {
  return RecipeReader(file).read();
}

}  // namespace qvlm
