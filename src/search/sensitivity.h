// What rounding a few linears of one layer, and nothing else, does to the answers of the model:
// measured behind the head, so that layers and number formats compare, and to what two do together.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/declare_quantization.h"
#include "model/unit.h"
#include "search/answer_logits.h"

namespace qvlm {

struct AnswerEffect {
  double divergence = 0.0;  // mean over answer positions of KL(float || rounded)
  // [positions, vocab] float32: sqrt(p) (d - sum p d), d the change of the logits, p the float
  // model's probabilities. To second order the divergence is the mean over positions of half its
  // square, so the products of two say how their effects go together.
  at::Tensor direction;
};

// The error that AllocationBlock wants: measured divergences on the diagonal, and beside it those
// of two effects, sqrt(a b) times the cosine between their directions. Where they point apart it is
// 0: that two errors undo each other on a few answers does not come true on others
// (docs/experiments.md, E14).
std::vector<std::vector<double>> combine_effects(const std::vector<AnswerEffect>& effects);

// Goes up the decoder. At every layer as many layers are run as are above it, for each variant.
class Sensitivity {
 public:
  // root: a float model. inputs: the states before its first layer; kinds: of their positions.
  // on_forward is called after every layer-forward, one layer on all samples; may be empty.
  Sensitivity(const Weights& root,
              const ModelConfig& config,
              States inputs,
              const std::vector<std::vector<TokenKind>>& kinds,
              std::function<void()> on_forward);

  // Of rounding, one after the other, these linears of the next layer. Throws kCorrupt where a
  // variant breaks the model: its logits are not finite.
  std::vector<AnswerEffect> measure(const std::vector<LinearSchemes>& variants) const;
  // Goes on to the layer behind.
  void advance();

 private:
  // Loads the layer once.
  void run_float(std::size_t layer, std::vector<States>& variants) const;
  AnswerEffect compare(const States& states) const;

  const Weights& root_;
  Weights wide_;  // the same in float32
  const ModelConfig& config_;
  std::function<void()> on_forward_;
  std::vector<Unit> units_;  // the decoder's layers
  AnswerLogits answers_;
  Rope rope_;
  States exact_;           // before the next layer
  std::size_t layer_ = 0;  // the next one
  at::Tensor reference_;   // log probabilities of the float model
};

}  // namespace qvlm
