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

// What a rotation that keeps massive channels apart does not go with. head: whether it is
// quantized.
void check_massive_apart(const Recipe& recipe, bool head) {
  std::int64_t turns = 0;
  bool apart = false;
  for (const Transform& transform : recipe.transforms) {
    const auto* rotate = std::get_if<RotateOptions>(&transform);
    if (rotate == nullptr) continue;
    const bool turns_stream = rotate->residual_stream.value_or(true);
    require(turns_stream || !rotate->massive_apart, ErrorKind::kInvalidArgument, "recipe '",
            recipe.name,
            "': rotate: massive_channels are of the residual stream, which this rotation leaves");
    turns += turns_stream ? 1 : 0;
    apart = apart || rotate->massive_apart;
  }
  if (!apart) return;
  require(turns == 1, ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "': rotate: massive_channels: apart, but another rotation turns the residual stream, and "
          "them with it");
  require(!head, ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "': rotate: massive_channels: apart leaves them to lm_head as they are, which is "
          "quantized; keep it in float by an override, or turn them with the others");
}

// decoder, encoder: whether its layers, or vision tower or projector, are quantized.
void check_rounding(const Recipe& recipe, bool decoder, bool encoder) {
  require(recipe.rounding.method == RoundingMethod::kNearest || decoder || encoder,
          ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "': rounding: gptq is of decoder layers, vision tower and projector, which all stay "
          "float; leave it out");
  require(!recipe.rounding.bias_correction || encoder, ErrorKind::kInvalidArgument, "recipe '",
          recipe.name,
          "': rounding: bias_correction is of vision tower and projector, which both stay float");
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
  const bool measured = !has_static_input(scheme) || (recipe.search && is_in_decoder(linear.name));
  require(measured, ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "': the static activation scales of '", linear.name,
          "' are not measured: only a 'search' does that, in the decoder; use granularity token");
}

// How the recipe wants the input of this linear transformed while it runs. An input that stays
// float gains nothing from it, and static scales are measured before.
std::optional<HadamardInput> find_hadamard(const Recipe& recipe,
                                           const LinearShape& linear,
                                           const LinearScheme& scheme) {
  const bool is_down = is_in_decoder(linear.name) && linear.name.ends_with(".down_proj");
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

bool Recipe::transforms_by_data() const {
  return std::ranges::any_of(transforms, [](const Transform& transform) {
    const auto* rotate = std::get_if<RotateOptions>(&transform);
    return rotate == nullptr || rotate->massive_apart;
  });
}

bool weighs_by_gradient(const Recipe& recipe) {
  const bool rounding =
      recipe.rounding.method == RoundingMethod::kGptq && recipe.rounding.by_gradient;
  return recipe.search && (rounding || recipe.search->by_gradient);
}

Recipe complete_recipe(Recipe recipe, const std::vector<LinearShape>& linears) {
  if (recipe.search && recipe.search->by_gradient) recipe.rounding.by_gradient = true;
  if (recipe.search || !recipe.walks_decoder()) return recipe;
  recipe.search = SearchOptions{.held_out = false};
  // Units of precision are judged together by the blocks of the plan, whatever is searched.
  if (recipe.precision) return recipe;
  recipe.plan = {.strategy = PlanStrategy::kNone, .max_depth = 1};
  const bool decoder = std::ranges::any_of(
      apply_recipe(recipe, linears), [](const auto& entry) { return is_in_decoder(entry.first); });
  if (!decoder) recipe.search.reset();  // was there for static scales, which need one to fit
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
  bool quantizes = false, decoder = false, encoder = false, head = false;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (!matched[i].scheme) continue;
    quantizes = true;
    decoder = decoder || is_in_decoder(linears[i].name);
    encoder = encoder || is_in_encoder(linears[i].name);
    head = head || linears[i].name == "lm_head";
    check_fit(recipe, linears[i], *matched[i].scheme);
    matched[i].scheme->hadamard_input = find_hadamard(recipe, linears[i], *matched[i].scheme);
  }
  require(quantizes, ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "' quantizes no linear of this model");
  check_massive_apart(recipe, head);
  check_rounding(recipe, decoder, encoder);
  return matched;
}

std::map<std::string, LinearScheme> apply_candidate(const Recipe& recipe,
                                                    const LinearScheme& candidate,
                                                    const std::vector<LinearShape>& linears) {
  check_scheme(recipe, candidate);
  const std::vector<MatchedLinear> matched = match_recipe(recipe, linears);
  std::map<std::string, LinearScheme> schemes;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (!matched[i].scheme || !is_in_decoder(linears[i].name)) continue;
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
