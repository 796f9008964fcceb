#include "search/answer_logits.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "search/token_errors.h"

namespace qvlm {

AnswerLogits::AnswerLogits(const Weights& root,
                           const ModelConfig& config,
                           const std::vector<std::vector<TokenKind>>& kinds)
    : head_(root, config) {
  require(has_answers(kinds), ErrorKind::kInvalidArgument,
          "calibration: no sample has an answer, and the model is judged by its answers");
  for (const std::vector<TokenKind>& sample : kinds) {
    std::vector<std::int64_t> positions;
    for (std::size_t t = 0; t < sample.size(); ++t) {
      if (predicts_answer(sample, t)) positions.push_back(static_cast<std::int64_t>(t));
    }
    positions_.push_back(at::tensor(positions, at::kLong));
  }
}

at::Tensor AnswerLogits::log_probabilities(const States& states) const {
  States rows(states.size());
  for_samples(states.size(), [&](std::size_t i) {
    rows[i] = at::log_softmax(head_.forward(states[i].index_select(0, positions_.at(i))), -1);
  });
  return at::cat(rows);
}

double mean_divergence(const at::Tensor& reference, const at::Tensor& result) {
  double mean = 0.0;
  for_each_apart(1, [&](std::int64_t) {
    const at::Tensor each = (reference.exp() * (reference - result)).sum(-1, false, at::kDouble);
    mean = each.clamp_min(0.0).mean().item<double>();
  });
  return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
}

}  // namespace qvlm
