#include "pipeline/recipe.h"

#include <regex>

#include "base/error.h"
#include "io/scheme.h"

namespace qvlm {
namespace {

// Recipes can be built in code too, so what the YAML reader checks is checked here.
std::regex compile_pattern(const Recipe& recipe, const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    fail(ErrorKind::kInvalidArgument, "recipe '", recipe.name, "': '", pattern,
         "' is not a regular expression: ", error.what());
  }
}

void check_scheme(const Recipe& recipe, const LinearScheme& scheme) {
  const std::string where = "recipe '" + recipe.name + "'";
  check_weight_scheme(scheme.weight, where);
  if (scheme.activation) check_activation_scheme(*scheme.activation, where);
}

void check_fit(const Recipe& recipe, const LinearShape& linear, const Scheme& weight) {
  const bool fits = weight.granularity != Granularity::kGroup || linear.in % weight.group_size == 0;
  require(fits, ErrorKind::kInvalidArgument, "recipe '", recipe.name, "': group_size ",
          weight.group_size, " does not divide the ", linear.in, " inputs of ", linear.name,
          "; choose a smaller group_size or keep this linear in float by an override");
}

}  // namespace

std::map<std::string, LinearScheme> apply_recipe(const Recipe& recipe,
                                                 const std::vector<LinearShape>& linears) {
  std::map<std::string, LinearScheme> schemes;
  if (recipe.standard) {
    check_scheme(recipe, *recipe.standard);
    for (const LinearShape& linear : linears)
      schemes[linear.name] = *recipe.standard;
  }
  for (const Override& change : recipe.overrides) {
    const std::regex pattern = compile_pattern(recipe, change.pattern);
    if (change.scheme) check_scheme(recipe, *change.scheme);
    bool matched = false;
    for (const LinearShape& linear : linears) {
      if (!std::regex_match(linear.name, pattern)) continue;
      matched = true;
      if (change.scheme) {
        schemes[linear.name] = *change.scheme;
      } else {
        schemes.erase(linear.name);
      }
    }
    require(matched, ErrorKind::kInvalidArgument, "recipe '", recipe.name, "': the pattern '",
            change.pattern, "' matches no linear of this model; `qvlm inspect` lists their names");
  }
  require(!schemes.empty(), ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "' quantizes no linear of this model");
  for (const LinearShape& linear : linears) {
    const auto found = schemes.find(linear.name);
    if (found != schemes.end()) check_fit(recipe, linear, found->second.weight);
  }
  return schemes;
}

}  // namespace qvlm
