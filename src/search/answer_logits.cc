#include "search/answer_logits.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "search/differentiate.h"
#include "search/token_errors.h"

namespace qvlm {
namespace {

at::Tensor random_signs(Random& random, at::IntArrayRef shape) {
  at::Tensor signs = at::empty(shape, at::kFloat);
  float* const values = signs.mutable_data_ptr<float>();
  std::uint64_t bits = 0;
  for (std::int64_t i = 0; i < signs.numel(); ++i, bits >>= 1) {
    if (i % 64 == 0) bits = random.next();
    values[i] = (bits & 1) == 0 ? 1.0F : -1.0F;
  }
  return signs;
}

}  // namespace

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

// z = sqrt(p) n - p sum(sqrt(p) n) with random signs n.
std::vector<at::Tensor> AnswerLogits::draw_sample_gradients(const at::Tensor& state,
                                                            std::size_t sample,
                                                            int draws,
                                                            std::uint64_t seed) const {
  const at::Tensor rows = state.index_select(0, positions_.at(sample));
  const at::Tensor p = at::softmax(head_.forward(rows), -1), root = p.sqrt();
  Random random(seed);
  std::vector<at::Tensor> at_logits;
  for (int i = 0; i < draws; ++i) {
    const at::Tensor z = root * random_signs(random, root.sizes());
    at_logits.push_back(z - p * z.sum(-1, /*keepdim=*/true));
  }
  std::vector<at::Tensor> gradients =
      pull_back_each(rows, at_logits, [&](const at::Tensor& x) { return head_.forward(x); });
  for (at::Tensor& gradient : gradients)
    gradient = at::zeros_like(state).index_copy_(0, positions_.at(sample), gradient);
  return gradients;
}

std::vector<States> AnswerLogits::draw_gradients(const States& states,
                                                 int draws,
                                                 std::size_t first) const {
  std::vector<States> gradients(states.size());
  for_samples(states.size(), [&](std::size_t i) {
    gradients[i] = draw_sample_gradients(states[i], i, draws, first + i);
  });
  return gradients;
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
