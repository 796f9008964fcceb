// Errors of states: the two formulas written plainly, what is left out, what is infinite.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "search/states.h"
#include "search/token_errors.h"

namespace qvlm {
namespace {

TEST(StatesTest, ErrorsAreTheFormulas) {
  at::manual_seed(3);
  States states, reference;
  for (const std::int64_t tokens : {3, 5}) {
    reference.push_back(at::randn({tokens, 8}));
    states.push_back(reference.back() + 0.1 * at::randn({tokens, 8}));
  }
  double relative = 0.0, squared = 0.0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    for (std::int64_t t = 0; t < states[i].size(0); ++t) {
      double difference = 0.0, norm = 0.0;
      for (std::int64_t c = 0; c < 8; ++c) {
        const double want = reference[i][t][c].item<double>();
        difference += std::pow(states[i][t][c].item<double>() - want, 2);
        norm += want * want;
      }
      squared += difference;
      if (t > 0) relative += difference / norm;
    }
  }
  // Sums of eight float32 squares; a share of 1e-6 is several of their roundings.
  EXPECT_NEAR(state_error(states, reference, {ErrorMeasure::kRelative}), relative / 6,
              relative * 1e-6);
  EXPECT_NEAR(state_error(states, reference, {ErrorMeasure::kSquared}), squared / 8,
              squared * 1e-6);
  EXPECT_EQ(state_error(reference, reference, {ErrorMeasure::kRelative}), 0.0);
}

// Each kind has an error of its own; together, weighed by their tokens, they are the whole one. The
// third position predicts the answer.
TEST(StatesTest, ErrorsByKindOfToken) {
  at::manual_seed(4);
  using enum TokenKind;
  const std::vector<std::vector<TokenKind>> kinds = {{kText, kImage, kText, kAnswer, kText},
                                                     {kText, kText, kImage}};
  States states, reference;
  for (const auto& sample : kinds) {
    reference.push_back(at::randn({std::ssize(sample), 8}));
    states.push_back(reference.back().clone());
    for (std::int64_t t = 0; t < std::ssize(sample); ++t) {
      const TokenKind kind = sample[static_cast<std::size_t>(t)];
      const bool predicts = t == 2 && std::ssize(sample) == 5;
      states.back()[t] *= predicts ? 1.3 : kind == kImage ? 1.1 : 1.2;
    }
  }
  const TokenErrors errors = measure_token_errors(states, reference, kinds);
  EXPECT_NEAR(errors.image, 0.01, 1e-6);
  EXPECT_NEAR(errors.text, 0.04, 1e-6);
  EXPECT_NEAR(errors.answer, 0.09, 1e-6);
  EXPECT_NEAR(state_error(states, reference, {ErrorMeasure::kRelative}),
              (2 * errors.image + 3 * errors.text + errors.answer) / 6, 1e-7);
  const TokenWeights weights{.image = 0.5, .text = 2.0, .answer = 30.0};
  EXPECT_NEAR(
      state_error(states, reference, {ErrorMeasure::kRelative, make_token_weights(kinds, weights)}),
      (2 * 0.5 * errors.image + 3 * 2 * errors.text + 30 * errors.answer) / 37, 1e-6);
  EXPECT_TRUE(make_token_weights(kinds, {}).empty());  // all alike: not one rounding more
  EXPECT_EQ(measure_token_errors({}, {}, {}).image, 0.0);
}

TEST(StatesTest, TheFirstTokenCountsOnlyWhereItIsTheOnlyOne) {
  const at::Tensor reference = at::ones({2, 4});
  at::Tensor changed = reference.clone();
  changed[0].fill_(100.0);
  EXPECT_EQ(state_error({changed}, {reference}, {ErrorMeasure::kRelative}), 0.0);
  EXPECT_GT(state_error({changed}, {reference}, {ErrorMeasure::kSquared}), 0.0);
  EXPECT_GT(
      state_error({changed.slice(0, 0, 1)}, {reference.slice(0, 0, 1)}, {ErrorMeasure::kRelative}),
      0.0);
}

TEST(StatesTest, NotANumberIsInfinitelyWrong) {
  at::Tensor broken = at::ones({2, 4});
  broken[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(state_error({broken}, {at::ones({2, 4})}, {ErrorMeasure::kRelative}),
            std::numeric_limits<double>::infinity());
}

TEST(StatesTest, ThreadsDoNotChangeNumbers) {
  at::manual_seed(4);
  States states, reference;
  for (int i = 0; i < 9; ++i) {
    reference.push_back(at::randn({40, 64}));
    states.push_back(at::randn({40, 64}));
  }
  const int threads = thread_count();
  set_thread_count(1);
  const double one = state_error(states, reference, {ErrorMeasure::kRelative});
  set_thread_count(2);
  EXPECT_EQ(state_error(states, reference, {ErrorMeasure::kRelative}), one);
  set_thread_count(threads);
}

// By gradients an error is one of all tokens together, in either measure, and each layer's own.
TEST(StatesTest, ErrorsByWhatTokensCost) {
  at::manual_seed(5);
  States states, reference;
  TokenCounts counts{ErrorMeasure::kRelative, {}, std::vector<States>(2)};
  for (const std::int64_t tokens : {4, 3, 5}) {
    reference.push_back(at::randn({tokens, 8}));
    states.push_back(reference.back() + 0.1 * at::randn({tokens, 8}));
    counts.by_gradient[0].push_back(at::rand({tokens}));
    counts.by_gradient[1].push_back(at::rand({tokens}));
  }
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    double difference = 0.0, size = 0.0, squared = 0.0, weights = 0.0;
    for (std::size_t i = 0; i < states.size(); ++i) {
      const at::Tensor weight = counts.by_gradient[static_cast<std::size_t>(layer)][i];
      const at::Tensor errors = weight * (states[i] - reference[i]).square().sum(-1);
      difference += errors.slice(0, 1).sum().item<double>();
      size += (weight * reference[i].square().sum(-1)).slice(0, 1).sum().item<double>();
      squared += errors.sum().item<double>();
      weights += weight.sum().item<double>();
    }
    counts.measure = ErrorMeasure::kRelative;
    EXPECT_NEAR(state_error(states, reference, counts.terms(layer, reference)), difference / size,
                1e-6);
    counts.measure = ErrorMeasure::kSquared;
    EXPECT_NEAR(state_error(states, reference, counts.terms(layer, reference)), squared / weights,
                1e-6);
  }
  const TokenCounts odd = counts.half(1);
  ASSERT_EQ(odd.by_gradient.at(1).size(), 1U);
  EXPECT_TRUE(at::equal(odd.by_gradient[1][0], counts.by_gradient[1][1]));
}

TEST(StatesTest, HalvesShareNothing) {
  EXPECT_EQ(every_second(std::vector<int>{0, 1, 2, 3, 4}, 0), (std::vector<int>{0, 2, 4}));
  EXPECT_EQ(every_second(std::vector<int>{0, 1, 2, 3, 4}, 1), (std::vector<int>{1, 3}));
}

}  // namespace
}  // namespace qvlm
