// Recipes: what a quantization run does to which linear. YAML files under configs/recipes/ hold
// them:
//
//   name: w4a8
//   description: one line for people
//   default:                       # every linear that no override matches
//     weight: {bits: 4, granularity: group, group_size: 128, symmetric: true}
//     activation: {bits: 8, granularity: token}       # left out: inputs stay float
//   overrides:                     # regular expressions over whole names; the last match wins
//     - match: "vision_tower\\..*|projector\\..*|lm_head"
//       keep: float
//
// Linears are named vision_tower.*, projector.*, decoder.*, lm_head, as `qvlm inspect` prints them.
#pragma once

#include <qvlm/scheme.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// What happens to the linears whose whole name matches `pattern`.
struct Override {
  std::string pattern;                 // ECMAScript regular expression
  std::optional<LinearScheme> scheme;  // nothing: keep the linear in float
};

struct Recipe {
  std::string name;
  std::string description;
  std::optional<LinearScheme>
      standard;  // `default`; nothing: float unless an override says otherwise
  std::vector<Override> overrides;

  // Reads a YAML file. Throws kNotFound, or kInvalidArgument naming file, line and key for an
  // unknown key, a bad value, a bad regular expression or a scheme that cannot exist.
  static Recipe load(const std::filesystem::path& file);
};

}  // namespace qvlm
