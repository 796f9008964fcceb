// How far rounded states are from the float model's, by kind of token: a mean over all tokens is
// mostly one over image tokens, and can hide that answers have broken. What counts as answer are
// the positions whose logits predict it: from the one before its first token to the one before its
// last.
#pragma once

#include <qvlm/quantize.h>

#include "calib/samples.h"
#include "search/states.h"

namespace qvlm {

// Whether the logits of this position predict a token of the answer.
bool predicts_answer(const std::vector<TokenKind>& kinds, std::size_t position);

bool has_answers(const std::vector<std::vector<TokenKind>>& kinds);

// The relative error of state_error(), the first token left out as there, over the tokens of each
// kind. REQUIRES: equal shapes, one kind a token.
TokenErrors measure_token_errors(const States& states,
                                 const States& reference,
                                 const std::vector<std::vector<TokenKind>>& kinds);

// ErrorTerms::weights: what every token counts by its kind. Empty where all kinds count 1.
std::vector<at::Tensor> make_token_weights(const std::vector<std::vector<TokenKind>>& kinds,
                                           const TokenWeights& weights);

// What the tokens of some samples count in errors behind the layers of the decoder.
struct TokenCounts {
  ErrorMeasure measure = ErrorMeasure::kRelative;
  std::vector<at::Tensor> by_kind;  // behind every layer; see make_token_weights()
  // [layers][samples] of [tokens], what |difference|^2 of each costs; empty: they count by kind.
  std::vector<std::vector<at::Tensor>> by_gradient;

  // Behind a layer whose states are `reference` in float. What a relative error costs is in
  // proportion to |reference|^2.
  ErrorTerms terms(std::int64_t layer, const States& reference) const;
  // Behind each layer from `first` on that has a reference.
  std::vector<ErrorTerms> terms(std::int64_t first, const std::vector<States>& references) const;
  // Of the samples with even places, or of those with odd ones.
  TokenCounts half(std::size_t first) const;
};

}  // namespace qvlm
