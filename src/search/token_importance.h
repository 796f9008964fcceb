// How much the answers depend on each token at each input of the decoder's linears and behind each
// layer, by gradients: what an error there does to them. Found for every layer in one pass down the
// decoder.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "calib/samples.h"
#include "io/hf_config.h"
#include "model/weight_source.h"
#include "search/states.h"

namespace qvlm {

// What the tokens of each sample count in the rounding of a layer: [inputs][samples] of [tokens]
// float32, inputs by NamedLinear::input. Nothing for an input: all tokens count 1.
using InputWeights = std::vector<std::vector<at::Tensor>>;

// The share of an even weight in what gradients say: where they leave few tokens, as in the last
// layer, whose other tokens change no answer, these alone would not tell what a weight is for.
inline constexpr double kEvenShare = 0.05;

// Layer-forwards of a layer that this takes: one up, one down, and about as much for the gradient
// of each of two draws.
inline constexpr std::int64_t kImportanceForwards = 4;

struct TokenImportance {
  std::vector<InputWeights> inputs;              // by layer
  std::vector<std::vector<at::Tensor>> outputs;  // by layer and sample, [tokens] float32
};

// A token's weight is the mean square of the gradient at its place, over draws of
// what the answers' KL depends on (AnswerLogits::draw_gradients), and an even share of their mean.
// root: a float model; inputs: the states before its first layer; kinds: of their positions.
// on_forward: see Sensitivity. stop_requested is asked at every layer; may be empty; then nothing
// is in the result. Throws kInvalidArgument where samples have no answers, kCorrupt for gradients
// that are not finite.
TokenImportance measure_token_importance(const Weights& root,
                                         const ModelConfig& config,
                                         const States& inputs,
                                         const std::vector<std::vector<TokenKind>>& kinds,
                                         const std::function<void()>& on_forward,
                                         const std::function<bool()>& stop_requested = {});

}  // namespace qvlm
