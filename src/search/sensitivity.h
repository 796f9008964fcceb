// What rounding a few linears of one layer, and nothing else, does to the answers of the model:
// measured by the gradients of its logits, so that layers and number formats compare, and to what
// several do together. A layer costs a handful of its forwards, however many are above it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "io/declare_quantization.h"
#include "model/unit.h"
#include "search/answer_logits.h"
#include "search/float_decoder.h"

namespace qvlm {

// How far something moves the answers of each sample in kDraws random directions of its logits
// (AnswerLogits::draw_gradients), to first order in the states behind its layer: [samples * draws].
// Those of two parts of the samples may be put one behind the other.
using AnswerChange = std::vector<double>;

// The error that AllocationBlock wants, by changes on samples with so many answer positions: the
// mean KL to the float model on the diagonal, half the mean square of a change; and beside it the
// half of what two have together beyond their sum. Where they point apart it is 0: that two errors
// undo each other on a few answers does not come true on others (docs/experiments.md, E14).
std::vector<std::vector<double>> combine_changes(const std::vector<AnswerChange>& changes,
                                                 std::int64_t positions);

// Goes down the decoder, from its last layer to its first. Keeps the states behind every layer.
class Sensitivity {
 public:
  static constexpr int kDraws = 8;
  // Layer-forwards that descend() takes: one, and about as much for each gradient.
  static constexpr std::int64_t kForwards = 1 + kDraws;

  // root: a float model. inputs: the states before its first layer; kinds: of their positions;
  // first: see AnswerLogits::draw_gradients. on_forward is called after every layer-forward, one
  // layer on all samples, or what takes as long; may be empty. Throws kInvalidArgument where no
  // sample has an answer.
  Sensitivity(const Weights& root,
              const ModelConfig& config,
              const States& inputs,
              const std::vector<std::vector<TokenKind>>& kinds,
              std::size_t first,
              std::function<void()> on_forward);

  std::size_t layer() const { return layer_; }  // the next one
  // Of rounding, one after the other, these linears of that layer. Throws kCorrupt where a variant
  // breaks the model: its states are not finite.
  std::vector<AnswerChange> measure(const std::vector<LinearSchemes>& variants) const;
  // Goes on to the layer below. REQUIRES: there is one.
  void descend();

 private:
  AnswerChange compare(const States& states) const;
  void count(std::int64_t forwards) const;

  const Weights& root_;
  const ModelConfig& config_;
  std::function<void()> on_forward_;
  std::vector<Unit> units_;  // the decoder's layers
  FloatDecoder decoder_;
  std::vector<States> trajectory_;  // before the first layer, and behind those that are left
  std::vector<States> gradients_;   // [samples][draws], behind the next layer
  std::size_t layer_ = 0;           // the next one
};

}  // namespace qvlm
