#include "pipeline/precision_units.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "model/llama.h"
#include "pipeline/recipe.h"
#include "pipeline/stored_size.h"
#include "search/sensitivity.h"

namespace qvlm {
namespace {

constexpr std::string_view kLayers = "decoder.layers.";

// Of "decoder.layers.12.mlp.up_proj".
std::int64_t layer_of(std::string_view name) {
  std::int64_t layer = 0;
  const std::string_view number = name.substr(kLayers.size());
  std::from_chars(number.data(), number.data() + number.size(), layer);
  return layer;
}

std::int64_t activation_bits(const LinearScheme& scheme) {
  constexpr int kFloat = 16;
  return scheme.activation ? scheme.activation->bits : kFloat;
}

// A target for activations counts no bytes.
void check_candidates(const PrecisionChoice& choice) {
  if (choice.target.kind != PrecisionTarget::Kind::kActivationBits) return;
  for (const PrecisionUnit& unit : choice.units) {
    const bool larger = *std::ranges::max_element(unit.bytes) > unit.bytes.front();
    require(
        !larger, ErrorKind::kInvalidArgument,
        "precision: target_activation_bits counts no bytes, and a candidate takes more than the "
        "recipe's own scheme of '",
        unit.linears.front(), "'; give it the same weights, or a target of bytes");
  }
}

// Found before anything is measured.
void check_target(const PrecisionChoice& choice) {
  if (choice.target.kind == PrecisionTarget::Kind::kDivergence) return;
  const std::int64_t least = choice.least_cost(choice.target.kind), target = choice.budget();
  if (choice.target.kind == PrecisionTarget::Kind::kActivationBits) {
    require(least <= target, ErrorKind::kInvalidArgument, "precision: the target is ",
            choice.target.value, " bits an activation, the smallest candidates have ",
            static_cast<double>(least) / static_cast<double>(choice.weights()));
    return;
  }
  require(least <= target, ErrorKind::kInvalidArgument, "precision: the target leaves ",
          std::max<std::int64_t>(target, 0),
          " bytes to the decoder's quantized linears, the smallest candidates take ", least, ", ",
          8.0 * static_cast<double>(least) / static_cast<double>(choice.weights()),
          " bits a weight");
}

}  // namespace

std::int64_t PrecisionChoice::weights() const {
  std::int64_t weights = 0;
  for (const PrecisionUnit& unit : units)
    weights += unit.weights;
  return weights;
}

std::int64_t PrecisionChoice::least_cost(PrecisionTarget::Kind kind) const {
  std::int64_t least = 0;
  for (const PrecisionUnit& unit : units)
    least += *std::ranges::min_element(unit.cost(kind));
  return least;
}

std::int64_t PrecisionChoice::budget() const {
  if (target.kind == PrecisionTarget::Kind::kBytes)
    return static_cast<std::int64_t>(std::floor(target.value)) - other_bytes;
  const double weights = static_cast<double>(this->weights());
  if (target.kind == PrecisionTarget::Kind::kActivationBits)
    return static_cast<std::int64_t>(std::floor(target.value * weights));
  constexpr double kBitsPerByte = 8.0;
  return static_cast<std::int64_t>(std::floor(target.value * weights / kBitsPerByte));
}

std::int64_t precision_forwards(const PrecisionChoice& choice, std::int64_t layers) {
  const std::int64_t above = choice.units.empty() ? 0 : layers - 1 - choice.units.front().layer;
  std::int64_t forwards = layers + Sensitivity::kForwards * above;
  for (const PrecisionUnit& unit : choice.units)
    forwards += std::ssize(unit.schemes);
  return forwards;
}

PrecisionChoice list_precision_units(const Checkpoint& source,
                                     const Recipe& recipe,
                                     const std::vector<LinearShape>& linears,
                                     const LinearSchemes& schemes) {
  std::vector<LinearSchemes> candidates = {schemes};
  for (const LinearScheme& candidate : recipe.precision->candidates) {
    const auto applied = apply_candidate(recipe, candidate, linears);
    candidates.emplace_back(applied.begin(), applied.end());
  }
  PrecisionChoice choice{{}, recipe.precision->target, tensor_bytes(source)};
  for (const LinearShape& linear : linears) {
    const auto own = schemes.find(linear.name);
    if (own == schemes.end()) continue;
    choice.other_bytes -=
        static_cast<std::int64_t>(source.get_tensor(linear.name + ".weight").bytes.size());
    if (!linear.name.starts_with(kLayers)) {
      choice.other_bytes += stored_bytes(source, linear, own->second);
      continue;
    }
    const std::int64_t layer = layer_of(linear.name);
    const int input = DecoderLayer::input_of(linear.name);
    if (choice.units.empty() || choice.units.back().layer != layer ||
        choice.units.back().input != input) {
      choice.units.push_back({layer,
                              input,
                              {},
                              0,
                              std::vector<LinearSchemes>(candidates.size()),
                              std::vector<std::int64_t>(candidates.size(), 0),
                              std::vector<std::int64_t>(candidates.size(), 0)});
    }
    PrecisionUnit& unit = choice.units.back();
    unit.linears.push_back(linear.name);
    unit.weights += linear.out * linear.in;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const LinearScheme& scheme = unit.schemes[i][linear.name] = candidates[i].at(linear.name);
      unit.bytes[i] += stored_bytes(source, linear, scheme);
      unit.activation_bits[i] += linear.out * linear.in * activation_bits(scheme);
    }
  }
  require(!choice.units.empty(), ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "': 'precision' is about the decoder's linears, and quantizes none");
  check_candidates(choice);
  check_target(choice);
  return choice;
}

}  // namespace qvlm
