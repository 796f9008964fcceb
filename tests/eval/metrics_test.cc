#include "eval/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace qvlm {
namespace {

// The Wilson bounds are the p at which the observed share lies z standard errors away: the roots of
// (share - p)^2 = z^2 p (1 - p) / n. The test finds them by bisection, not by the closed form.
double wilson_root(double share, double n, double inside, double outside) {
  constexpr double kZ = 1.959963984540054;
  for (int step = 0; step < 200; ++step) {
    const double p = 0.5 * (inside + outside);
    const bool within = (share - p) * (share - p) <= kZ * kZ * p * (1 - p) / n;
    (within ? inside : outside) = p;
  }
  return inside;
}

TEST(MakeShare, BoundsSolveTheScoreEquation) {
  for (const auto& [count, total] : {std::pair{81, 263}, {1, 10}, {9, 10}, {4471, 4500}, {1, 2}}) {
    const Share share = make_share(count, total);
    const double p = static_cast<double>(count) / total;
    EXPECT_DOUBLE_EQ(share.value, p);
    // 1e-12: two hundred halvings reach the last bits of a double; the closed form loses a few
    // more.
    EXPECT_NEAR(share.low, wilson_root(p, total, p, 0.0), 1e-12) << count << " of " << total;
    EXPECT_NEAR(share.high, wilson_root(p, total, p, 1.0), 1e-12) << count << " of " << total;
  }
}

// Newcombe (1998), table I, method 3: 81 of 263 and 1 of 29, printed with four digits.
TEST(MakeShare, AgreesWithPublishedIntervals) {
  EXPECT_NEAR(make_share(81, 263).low, 0.2553, 5e-5);
  EXPECT_NEAR(make_share(81, 263).high, 0.3662, 5e-5);
  EXPECT_NEAR(make_share(1, 29).low, 0.0061, 5e-5);
  EXPECT_NEAR(make_share(1, 29).high, 0.1718, 5e-5);
}

TEST(MakeShare, EndsAreExact) {
  EXPECT_EQ(make_share(0, 20).low, 0.0);
  EXPECT_GT(make_share(0, 20).high, 0.1);
  EXPECT_EQ(make_share(20, 20).high, 1.0);
  EXPECT_LT(make_share(20, 20).low, 0.9);
  EXPECT_EQ(make_share(0, 0).low, 0.0);
  EXPECT_EQ(make_share(0, 0).high, 1.0);
}

// Pascal's triangle instead of gamma functions.
double coin_p(int lost, int won) {
  const int n = lost + won;
  std::vector<double> row = {1.0};  // chances of 0..k heads in k throws
  for (int k = 0; k < n; ++k) {
    std::vector<double> next(row.size() + 1, 0.0);
    for (std::size_t i = 0; i < row.size(); ++i) {
      next[i] += 0.5 * row[i];
      next[i + 1] += 0.5 * row[i];
    }
    row = next;
  }
  double p = 0.0;
  for (int k = 0; k <= n; ++k) {
    if (std::abs(2 * k - n) >= std::abs(lost - won)) p += row[static_cast<std::size_t>(k)];
  }
  return p;
}

TEST(Mcnemar, EqualsCountingCoinThrows) {
  for (int lost = 0; lost < 30; lost += 3) {
    for (int won = 0; won < 30; won += 2) {
      // Relative: a sum of at most 60 positive terms, each with a few roundings of lgamma's size
      // (~60).
      const double expected = coin_p(lost, won);
      EXPECT_NEAR(mcnemar_p(lost, won), expected, 1e-12 * expected) << lost << " " << won;
    }
  }
  EXPECT_EQ(mcnemar_p(0, 0), 1.0);
  EXPECT_DOUBLE_EQ(mcnemar_p(0, 5), 0.0625);
  EXPECT_LT(mcnemar_p(2000, 1000), 1e-60);  // does not underflow to nonsense
  EXPECT_EQ(mcnemar_p(1000, 1000), 1.0);
}

TEST(KlDivergence, TwoTokensByHand) {
  // softmax(0, log 3) = (1/4, 3/4); softmax(0, 0) = (1/2, 1/2).
  const std::vector<float> skewed = {0.0F, std::log(3.0F)};
  const std::vector<float> even = {7.0F, 7.0F};
  // log 3 is a float, off by at most 2^-24 relative; its error enters with weight below one.
  EXPECT_NEAR(kl_divergence(skewed, even), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
  EXPECT_NEAR(kl_divergence(even, skewed), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0), 1e-7);
  EXPECT_EQ(kl_divergence(skewed, skewed), 0.0);
}

TEST(KlDivergence, ShiftsAndLargeLogitsChangeNothing) {
  const std::vector<float> p = {1000.0F, 1002.0F, 998.0F};
  const std::vector<float> q = {-3.0F, -1.0F, -5.0F};
  EXPECT_EQ(kl_divergence(p, q), 0.0);
}

TEST(KlDivergence, NotANumberIsInfinitelyFar) {
  const std::vector<float> p = {1.0F, 2.0F};
  const std::vector<float> q = {1.0F, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(kl_divergence(p, q), std::numeric_limits<double>::infinity());
  EXPECT_EQ(kl_divergence(q, p), std::numeric_limits<double>::infinity());
}

TEST(OptionMargin, ComparesWithTheBestOther) {
  const std::vector<float> logits = {1.0F, 5.0F, 3.0F, 9.0F};
  const std::vector<std::int32_t> options = {1, 2, 0};
  EXPECT_EQ(option_margin(logits, 1, options), 2.0);
  EXPECT_EQ(option_margin(logits, 0, options), -4.0);
  const std::vector<std::int32_t> same_token = {1, 1};
  EXPECT_EQ(option_margin(logits, 1, same_token), std::nullopt);
}

TEST(Averages, KnownValues) {
  EXPECT_EQ(median({3.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(median({4.0, 1.0, 2.0, 3.0}), 2.5);
  std::vector<double> values(199, 1.0);
  values.push_back(1000.0);
  values.push_back(500.0);
  EXPECT_EQ(upper_trimmed_mean(values, 0.01), 1.0);  // 201 values: two are dropped
  EXPECT_EQ(upper_trimmed_mean({5.0}, 0.01), 5.0);
  EXPECT_EQ(upper_trimmed_mean({1.0, 3.0}, 0.01), 2.0);  // 1 % of two values is none
}

}  // namespace
}  // namespace qvlm
