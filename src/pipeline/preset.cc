// Recipe::preset(): what a scheme's name alone asks for.
#include <qvlm/recipe.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace qvlm {
namespace {

// What a name stands for. 16 bits of activations: they stay float.
struct SchemeName {
  const char* name;
  int weight_bits, activation_bits;
};
constexpr SchemeName kSchemes[] = {
    {"W8A8", 8, 8}, {"W4A16", 4, 16}, {"W4A8", 4, 8}, {"W6A6", 6, 6}, {"W4A4", 4, 4}};

SchemeName find_scheme(std::string_view name) {
  std::string upper(name);
  std::ranges::transform(upper, upper.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const SchemeName& known : kSchemes) {
    if (upper == known.name) return known;
  }
  fail(ErrorKind::kInvalidArgument, "unknown scheme '", name, "'; known are ", kPresetSchemes,
       "; anything else is a recipe");
}

LinearScheme make_scheme(const SchemeName& name) {
  LinearScheme scheme;
  scheme.weight.bits = name.weight_bits;
  if (name.weight_bits == 4) {
    scheme.weight.granularity = Granularity::kGroup;
    scheme.weight.group_size = 128;
  }
  if (name.activation_bits < 16) {
    scheme.activation =
        Scheme{.bits = name.activation_bits, .granularity = Granularity::kToken, .dynamic = true};
  }
  return scheme;
}

std::vector<double> activation_clips(int bits) {
  switch (bits) {
    case 4:
      return {1, 0.95, 0.9, 0.85, 0.8};
    case 6:
      return {1, 0.97, 0.94, 0.9, 0.85};
    case 8:
      return {1, 0.995, 0.99, 0.98, 0.97};
    default:
      return {1};
  }
}

std::vector<double> weight_clips(int bits) {
  return bits == 4 ? std::vector<double>{1, 0.95, 0.9, 0.85} : std::vector<double>{1};
}

// A clip for every input of a layer, searched jointly over blocks.
SearchOptions make_search(const SchemeName& name) {
  SearchOptions search;
  search.method = SearchMethod::kDescent;
  search.per_linear = true;
  search.token_weights = {.image = 1.0, .text = 5.0, .answer = 30.0};
  search.activation_clip = activation_clips(name.activation_bits);
  search.weight_clip = weight_clips(name.weight_bits);
  return search;
}

// Eight bits instead of four. Where bytes are all that counts, activations of 8 bits cost nothing,
// so they go up with the weights. Other numbers of bits are stored in eight (docs/formats.md).
PrecisionOptions make_precision(const SchemeName& name, const PrecisionTarget& target) {
  if (target.kind == PrecisionTarget::Kind::kActivationBits) {
    require(name.activation_bits < 8, ErrorKind::kInvalidArgument, "scheme '", name.name,
            "' has activations of ", name.activation_bits,
            " bits: a target for them goes with W6A6 and W4A4");
    return {{make_scheme({"", name.weight_bits, 8})}, target};
  }
  require(name.weight_bits == 4, ErrorKind::kInvalidArgument, "scheme '", name.name,
          "' is stored in 8 bits a weight, more there are not: a target of size or KL goes with "
          "W4A16, W4A8 and W4A4");
  return {{make_scheme({"", 8, std::max(name.activation_bits, 8)})}, target};
}

}  // namespace

Recipe Recipe::preset(std::string_view scheme,
                      Preset preset,
                      const std::optional<PrecisionTarget>& target) {
  const SchemeName name = find_scheme(scheme);
  Recipe recipe;
  recipe.standard = make_scheme(name);
  recipe.overrides = {{"vision_tower\\..*|projector\\..*|lm_head", std::nullopt}};
  // At 8 bits smoothing is nearly all that counts (docs/experiments.md, E9).
  const bool data = preset != Preset::kFast,
             rotates = name.weight_bits < 8 || preset == Preset::kBest;
  if (data && name.activation_bits < 16) {
    // What an alpha for each input is worth shows below 8 bits.
    SmoothOptions smooth;
    if (name.activation_bits < 8 || preset == Preset::kBest) smooth.alpha.reset();
    recipe.transforms.emplace_back(smooth);
  }
  // Eight bits do without the transform while running, and other programs with it.
  if (rotates) {
    recipe.transforms.emplace_back(
        RotateOptions{.down_input = name.activation_bits < 8, .massive_apart = data});
  }
  if (data && rotates) recipe.rounding = {.method = RoundingMethod::kGptq, .by_gradient = true};
  if (preset == Preset::kBest) recipe.search = make_search(name);
  recipe.calibration.samples = preset == Preset::kBest ? 128 : 64;
  recipe.name = std::string(name.name) + " " + preset_name(preset);
  constexpr auto kInputs = PrecisionTarget::Kind::kActivationBits;
  if (target) {
    // As many bits as they have leave nothing to choose.
    const bool all_alike = target->kind == kInputs && target->value == name.activation_bits;
    if (!all_alike) {
      recipe.precision = make_precision(name, *target);
      recipe.name += " mixed";
    }
  } else if (data && name.activation_bits == 4) {
    // A few inputs make most of the error of 4-bit activations (docs/experiments.md, E14).
    recipe.precision = make_precision(name, {kInputs, 4.5});
  }
  return recipe;
}

}  // namespace qvlm
