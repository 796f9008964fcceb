// What the model says where the calibration samples have their answers: log probabilities of every
// token at every position whose logits predict one of the answer. By them errors of different
// layers compare, as errors of states do not.
#pragma once

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

 private:
  Head head_;
  std::vector<at::Tensor> positions_;  // of each sample, int64
};

// Mean over positions of KL(reference || result), in natural logarithms; both log probabilities
// [positions, vocab]. Never below 0; infinite where something is not a number. Does not
// depend on the number of threads.
double mean_divergence(const at::Tensor& reference, const at::Tensor& result);

}  // namespace qvlm
