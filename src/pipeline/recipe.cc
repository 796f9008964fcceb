#include "pipeline/recipe.h"

#include <regex>

#include "base/error.h"

namespace qvlm {
namespace {

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
    for (const LinearShape& linear : linears)
      schemes[linear.name] = *recipe.standard;
  }
  for (const Override& change : recipe.overrides) {
    const std::regex pattern(change.pattern);
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
