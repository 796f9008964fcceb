#include "pipeline/recipe.h"

#include <qvlm/kernels.h>

#include <algorithm>
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

void check_range(const Recipe& recipe, const char* what, double value, NumberRange range) {
  require(value >= range.low && value <= range.high, ErrorKind::kInvalidArgument, "recipe '",
          recipe.name, "': ", what, ": expected ", range.low, " to ", range.high, ", got ", value);
}

void check_numbers(const Recipe& recipe) {
  for (const Transform& transform : recipe.transforms) {
    const auto* smooth = std::get_if<SmoothOptions>(&transform);
    if (smooth != nullptr && smooth->alpha)
      check_range(recipe, "alpha", *smooth->alpha, kAlphaRange);
  }
  check_range(recipe, "damping", recipe.rounding.damping, kDampingRange);
  if (!recipe.precision) return;
  const PrecisionOptions& precision = *recipe.precision;
  check_range(recipe, "precision: target", precision.target.value,
              target_range(precision.target.kind));
  require(!precision.candidates.empty() && precision.samples > 0, ErrorKind::kInvalidArgument,
          "recipe '", recipe.name, "': precision: expected candidates, and samples to measure on");
}

void check_scheme(const Recipe& recipe, const LinearScheme& scheme) {
  const std::string where = "recipe '" + recipe.name + "'";
  check_weight_scheme(scheme.weight, where);
  if (scheme.activation) check_activation_scheme(*scheme.activation, where);
}

void check_fit(const Recipe& recipe, const LinearShape& linear, const LinearScheme& scheme) {
  const Scheme& weight = scheme.weight;
  const bool fits = weight.granularity != Granularity::kGroup || linear.in % weight.group_size == 0;
  require(fits, ErrorKind::kInvalidArgument, "recipe '", recipe.name, "': group_size ",
          weight.group_size, " does not divide the ", linear.in, " inputs of ", linear.name,
          "; choose a smaller group_size or keep this linear in float by an override");
  // Static scales come out of the search, which walks the decoder.
  const bool measured =
      !has_static_input(scheme) || (recipe.search && linear.name.starts_with("decoder."));
  require(measured, ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "': the static activation scales of '", linear.name,
          "' are not measured: only a 'search' does that, in the decoder; use granularity token");
}

// How the recipe wants the input of this linear transformed while it runs. An input that stays
// float gains nothing from it, and static scales are measured before.
std::optional<HadamardInput> find_hadamard(const Recipe& recipe,
                                           const LinearShape& linear,
                                           const LinearScheme& scheme) {
  const bool is_down = linear.name.starts_with("decoder.") && linear.name.ends_with(".down_proj");
  const bool asked = std::ranges::any_of(recipe.transforms, [](const Transform& transform) {
    const auto* rotate = std::get_if<RotateOptions>(&transform);
    return rotate != nullptr && rotate->down_input;
  });
  if (!is_down || !asked || !scheme.activation || has_static_input(scheme)) return std::nullopt;
  const kernels::Hadamard hadamard = kernels::make_hadamard(linear.in);
  if (hadamard.width == 1) return std::nullopt;  // an odd width
  return HadamardInput{hadamard.width, hadamard.order};
}

}  // namespace

bool Recipe::smooths() const {
  return std::ranges::any_of(transforms, [](const Transform& transform) {
    const auto* rotate = std::get_if<RotateOptions>(&transform);
    return rotate == nullptr || rotate->massive_apart;
  });
}

bool weighs_by_gradient(const Recipe& recipe) {
  return recipe.rounding.method == RoundingMethod::kGptq && recipe.rounding.by_gradient;
}

Recipe complete_recipe(Recipe recipe) {
  if (recipe.search || !recipe.walks_decoder()) return recipe;
  recipe.search = SearchOptions{.held_out = false};
  // Units of precision are judged together by the blocks of the plan, whatever is searched.
  if (!recipe.precision) recipe.plan = {.strategy = PlanStrategy::kNone, .max_depth = 1};
  return recipe;
}

std::vector<MatchedLinear> match_recipe(const Recipe& recipe,
                                        const std::vector<LinearShape>& linears) {
  check_numbers(recipe);
  if (recipe.standard) check_scheme(recipe, *recipe.standard);
  std::vector<MatchedLinear> matched(linears.size(), {recipe.standard, kDefaultRule});
  for (const Override& change : recipe.overrides) {
    const std::regex pattern = compile_pattern(recipe, change.pattern);
    if (change.scheme) check_scheme(recipe, *change.scheme);
    bool used = false;
    for (std::size_t i = 0; i < linears.size(); ++i) {
      if (!std::regex_match(linears[i].name, pattern)) continue;
      used = true;
      matched[i] = {change.scheme, change.pattern};
    }
    require(used, ErrorKind::kInvalidArgument, "recipe '", recipe.name, "': the pattern '",
            change.pattern, "' matches no linear of this model; `qvlm inspect` lists their names");
  }
  const bool quantizes = std::any_of(matched.begin(), matched.end(), [](const MatchedLinear& one) {
    return one.scheme.has_value();
  });
  require(quantizes, ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "' quantizes no linear of this model");
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (!matched[i].scheme) continue;
    check_fit(recipe, linears[i], *matched[i].scheme);
    matched[i].scheme->hadamard_input = find_hadamard(recipe, linears[i], *matched[i].scheme);
  }
  return matched;
}

std::map<std::string, LinearScheme> apply_candidate(const Recipe& recipe,
                                                    const LinearScheme& candidate,
                                                    const std::vector<LinearShape>& linears) {
  check_scheme(recipe, candidate);
  const std::vector<MatchedLinear> matched = match_recipe(recipe, linears);
  std::map<std::string, LinearScheme> schemes;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (!matched[i].scheme || !linears[i].name.starts_with("decoder.")) continue;
    check_fit(recipe, linears[i], candidate);
    LinearScheme& scheme = schemes[linears[i].name] = candidate;
    scheme.hadamard_input = find_hadamard(recipe, linears[i], candidate);
  }
  return schemes;
}

std::map<std::string, LinearScheme> apply_recipe(const Recipe& recipe,
                                                 const std::vector<LinearShape>& linears) {
  const std::vector<MatchedLinear> matched = match_recipe(recipe, linears);
  std::map<std::string, LinearScheme> schemes;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (matched[i].scheme) schemes[linears[i].name] = *matched[i].scheme;
  }
  return schemes;
}

}  // namespace qvlm
