// Applying a recipe (include/qvlm/recipe.h) to a model: which linear gets which scheme.
#pragma once

#include <qvlm/recipe.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/linear_list.h"

namespace qvlm {

// What a number of a recipe may be.
struct NumberRange {
  double low = 0.0, high = 0.0;
};
inline constexpr NumberRange kAlphaRange{0.0, 1.0}, kDampingRange{1e-6, 1.0};
// PrecisionTarget::value.
constexpr NumberRange target_range(PrecisionTarget::Kind kind) {
  switch (kind) {
    case PrecisionTarget::Kind::kBitsPerWeight:
      return {1.0, 32.0};
    case PrecisionTarget::Kind::kBytes:
      return {1.0, 1e15};
    case PrecisionTarget::Kind::kActivationBits:
      return {1.0, 16.0};
    case PrecisionTarget::Kind::kDivergence:
      return {0.0, 1e6};
  }
  return {};
}

// What a recipe says of one linear.
struct MatchedLinear {
  std::optional<LinearScheme> scheme;  // nothing: it stays float
  std::string rule;                    // what decided: an override's pattern, or kDefaultRule
};
inline constexpr const char* kDefaultRule = "default";

// What the recipe says of each linear, in their order. Throws kInvalidArgument if a pattern matches
// no linear, a group size does not divide a linear's inputs, nothing is quantized at all, or a step
// of the recipe has nothing to do or would undo another; and for numbers out of their range.
std::vector<MatchedLinear> match_recipe(const Recipe& recipe,
                                        const std::vector<LinearShape>& linears);

// The recipe as quantize() runs it: where GPTQ or the choice of precision walk the decoder and no
// search does, the search is one among one candidate; layer by layer, where nothing needs blocks.
// GPTQ counts tokens by gradient where the search does. Throws as match_recipe() does.
Recipe complete_recipe(Recipe recipe, const std::vector<LinearShape>& linears);

// Whether the search or GPTQ weigh tokens by gradients; of a complete recipe, whose search walks
// the decoder for both.
bool weighs_by_gradient(const Recipe& recipe);

// The schemes of the linears that are quantized, by their names. Throws as match_recipe() does.
std::map<std::string, LinearScheme> apply_recipe(const Recipe& recipe,
                                                 const std::vector<LinearShape>& linears);

// The same of the decoder's linears, were all of them to get this candidate of the recipe's
// `precision`.
std::map<std::string, LinearScheme> apply_candidate(const Recipe& recipe,
                                                    const LinearScheme& candidate,
                                                    const std::vector<LinearShape>& linears);

}  // namespace qvlm
