// What the model says where the calibration samples have their answers: log probabilities of every
// token at every position whose logits predict one of the answer. By them errors of different
// layers compare, as errors of states do not.
#pragma once

#include <cstdint>
#include <vector>

#include "calib/samples.h"
#include "model/llama.h"
#include "search/states.h"

namespace qvlm {

class AnswerLogits {
 public:
  // root: all weights of a model, whose final norm and head are used. kinds: of the samples'
  // positions. Throws kInvalidArgument where no sample has an answer.
  AnswerLogits(const Weights& root,
               const ModelConfig& config,
               const std::vector<std::vector<TokenKind>>& kinds);

  // States behind the last layer -> log probabilities [answer positions of all samples, vocab].
  at::Tensor log_probabilities(const States& states) const;

  // By these gradients of the logits, [samples][draws], at the states behind the last layer, small
  // changes of states become divergences: the KL of a sample's answers, summed over its positions,
  // is to second order half the expected square of the product of a gradient with the change. They
  // are those of z^T logits, z random with the covariance diag(p) - p p^T that the KL has as its
  // metric, so a few do for all that changes. `first`: the place of the first sample in what seeds
  // draws, so that samples may be looked at in parts. REQUIRES: weights in float32.
  std::vector<States> draw_gradients(const States& states, int draws, std::size_t first) const;

 private:
  std::vector<at::Tensor> draw_sample_gradients(const at::Tensor& state,
                                                std::size_t sample,
                                                int draws,
                                                std::uint64_t seed) const;

  Head head_;
  std::vector<at::Tensor> positions_;  // of each sample, int64
};

// Mean over positions of KL(reference || result), in natural logarithms; both log probabilities
// [positions, vocab]. Never below 0; infinite where something is not a number. Does not
// depend on the number of threads.
double mean_divergence(const at::Tensor& reference, const at::Tensor& result);

}  // namespace qvlm
