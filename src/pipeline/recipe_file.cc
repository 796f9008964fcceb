// Reads recipes from YAML. Every key is checked: a misspelt one is an error that names file, line
// and key.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <initializer_list>
#include <set>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/scheme.h"
#include "pipeline/recipe.h"

namespace qvlm {
namespace {

class RecipeReader {
 public:
  explicit RecipeReader(const std::filesystem::path& file) : file_(file.string()) {}

  Recipe read() const {
    const YAML::Node root = parse();
    check_keys(root, "the recipe", {"name", "description", "default", "overrides"});
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
    require(recipe.standard || !recipe.overrides.empty(), ErrorKind::kInvalidArgument, file_,
            ": expected 'default' or 'overrides'; without both nothing would be quantized");
    return recipe;
  }

 private:
  YAML::Node parse() const {
    try {
      return YAML::Load(read_text_file(file_));
    } catch (const YAML::Exception& error) {
      fail(ErrorKind::kInvalidArgument, file_, ": not valid YAML: ", error.what());
    }
  }

  std::string where(const YAML::Node& node) const {
    return file_ + ":" + std::to_string(node.Mark().line + 1) + ": ";
  }

  void check_keys(const YAML::Node& node,
                  const std::string& what,
                  std::initializer_list<const char*> known) const {
    require(node.IsMap(), ErrorKind::kInvalidArgument, where(node), what,
            " must be a mapping of keys to values");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const auto key = value<std::string>(entry.first, "a key");
      require(seen.insert(key).second, ErrorKind::kInvalidArgument, where(entry.first), "the key '",
              key, "' is given twice in ", what);
      std::string list;
      for (const char* name : known)
        list += (list.empty() ? "" : ", ") + std::string(name);
      const bool good = std::find(known.begin(), known.end(), key) != known.end();
      require(good, ErrorKind::kInvalidArgument, where(entry.first), "unknown key '", key, "' in ",
              what, "; known are ", list);
    }
  }

  template <typename T>
  T value(const YAML::Node& node, const char* key) const {
    try {
      return node.as<T>();
    } catch (const YAML::Exception&) {
      fail(ErrorKind::kInvalidArgument, where(node), "the value of '", key, "' has the wrong type");
    }
  }

  template <typename T>
  T required(const YAML::Node& parent, const char* key) const {
    require(parent[key].IsDefined(), ErrorKind::kInvalidArgument, where(parent), "the key '", key,
            "' is missing");
    return value<T>(parent[key], key);
  }

  template <typename T>
  T optional(const YAML::Node& parent, const char* key, T otherwise) const {
    return parent[key].IsDefined() ? value<T>(parent[key], key) : otherwise;
  }

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
    scheme.dynamic = true;
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

  std::string file_;
};

}  // namespace

Recipe Recipe::load(const std::filesystem::path& file) {
  return RecipeReader(file).read();
}

}  // namespace qvlm
