#include "calib/entropy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/parallel.h"

namespace qvlm {
namespace {

using ::testing::HasSubstr;

at::Tensor levels() {
  return at::arange(-8, 8, at::kDouble);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// Two dependent sets of values, most of them on the grid of step 0.4, some beyond its ends.
struct Pair {
  at::Tensor a, b;

  Pair(std::int64_t n, at::ScalarType type) {
    at::manual_seed(n);
    a = at::randn({n}, at::kDouble);
    b = (a + 0.5 * at::randn({n}, at::kDouble)).to(type);
    a = (1.5 * a).to(type);
  }
};

const EntropyGrid kGrid{.step = 0.4};

double entropy_of(const Pair& pair, const EntropyGrid& grid = kGrid) {
  return conditional_entropy(joint_table(pair.a, grid, pair.b, grid)).item<double>();
}

// The formula of the paper, over all levels.
at::Tensor dense_codes(const at::Tensor& values, const EntropyGrid& grid) {
  const at::Tensor distance = values.unsqueeze(1) - levels() * grid.step;
  return (-distance.square() / (grid.tau * grid.step * grid.step)).softmax(1);
}

void expect_refused(const std::function<void()>& call, ErrorKind kind, const std::string& word) {
  try {
    call();
    ADD_FAILURE() << "not refused: " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

TEST(SoftCodes, SumToOne) {
  const Pair pair(1000, at::kFloat);
  const at::Tensor codes = soft_codes(pair.a, kGrid);
  EXPECT_EQ(codes.scalar_type(), at::kFloat);
  EXPECT_GE(codes.min().item<double>(), 0.0);
  // 7 quotients and 6 additions of float32 numbers below 1.
  EXPECT_LE(largest_difference(codes.sum(1), at::ones({1000})), 13 * std::ldexp(1.0, -24));
}

TEST(SoftCodes, PickTheNearestLevelAtTinyTau) {
  const at::Tensor places = at::tensor({-20.0, -8.4, -7.6, -0.3, 0.4, 2.5001, 6.6, 7.4, 1e6});
  const at::Tensor expected = at::tensor({0, 0, 0, 8, 8, 11, 15, 15, 15});
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    // The second best level is further by at least 2e-4 steps^2: exp(-2e-4 / 1e-7) is zero.
    const at::Tensor codes = soft_codes((places * 0.25).to(type), {.step = 0.25, .tau = 1e-7});
    EXPECT_TRUE(at::equal(codes, at::one_hot(expected.to(at::kLong), 16).to(type)));
  }
}

// The grid -8 .. 7 is its own mirror image around -0.5.
TEST(SoftCodes, AreSymmetric) {
  const Pair pair(1000, at::kDouble);
  for (const double tau : {0.05, 0.25, 3.0}) {
    const EntropyGrid grid{.step = 0.4, .tau = tau};
    const at::Tensor mirrored = soft_codes(-grid.step - pair.a, grid).flip(1);
    // Exponents of at most 6 * 10 / 0.05 carry a relative error of a few 2^-53.
    EXPECT_LE(largest_difference(soft_codes(pair.a, grid), mirrored), 1e-11);
  }
}

// Dropping levels k >= 4 away from the nearest one loses, of weights relative to the nearest one's
// (|u| <= 1/2 inside the grid, and less is lost outside), at most
// 2 * sum exp(-(k^2 - k) / tau); the others are divided by what is left, so the sum of all
// differences is at most twice that.
TEST(SoftCodes, DropOnlyWhatTheDenseSumHardlyHolds) {
  const Pair pair(5000, at::kDouble);
  for (const double tau : {0.25, 2.0, 4.0}) {
    const EntropyGrid grid{.step = 0.4, .tau = tau};
    double lost = 0.0;
    for (int k = 4; k < 16; ++k)
      lost += 2 * std::exp(-(k * k - k) / tau);
    const at::Tensor difference = soft_codes(pair.a, grid) - dense_codes(pair.a, grid);
    // 1e-12: exponents of at most (20^2 / 0.25) carry an error of 2^-53 of that.
    EXPECT_LE(difference.abs().sum(1).max().item<double>(), 2 * lost + 1e-12) << tau;
  }
  const at::Tensor codes = soft_codes(at::tensor({0.1}, at::kDouble), {.step = 1.0, .tau = 4.0});
  const at::Tensor used = at::tensor({0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0});
  EXPECT_TRUE(at::equal((codes > 0).to(at::kLong), used.to(at::kLong).unsqueeze(0)));
}

TEST(SoftCodes, OutliersFallOnTheEndLevels) {
  const at::Tensor far = at::tensor({-3e38, -1e20, -1e4, 1e4, 1e20, 3e38}, at::kFloat);
  const at::Tensor expected = at::one_hot(at::tensor({0, 0, 0, 15, 15, 15}, at::kLong), 16);
  const at::Tensor values = far.clone().set_requires_grad(true);
  const at::Tensor codes = soft_codes(values, EntropyGrid());
  EXPECT_TRUE(at::equal(codes, expected.to(at::kFloat)));
  codes.select(1, 15).sum().backward();
  EXPECT_TRUE(at::equal(values.grad(), at::zeros({6})));
}

TEST(JointTable, IsTheMeanOfProducts) {
  const Pair pair(3 * 16384 + 7, at::kDouble);
  const at::Tensor table = joint_table(pair.a, kGrid, pair.b, kGrid);
  const at::Tensor once = soft_codes(pair.a, kGrid).t().mm(soft_codes(pair.b, kGrid));
  // Sums of n positive numbers, at most 1 after division: n * 2^-53 = 6e-12.
  EXPECT_LE(largest_difference(table, once / pair.a.size(0)), 6e-12);
  EXPECT_NEAR(table.sum().item<double>(), 1.0, 6e-12);
  EXPECT_EQ(table.scalar_type(), at::kDouble);
}

// Codes carry float32 rounding: t is off by 2^-23 * 10, exponents by 2 * 3 / tau of that.
TEST(JointTable, FloatAgreesWithDouble) {
  const Pair pair(40000, at::kDouble);
  const at::Tensor exact = joint_table(pair.a, kGrid, pair.b, kGrid);
  const at::Tensor single = joint_table(pair.a.to(at::kFloat), kGrid, pair.b.to(at::kFloat), kGrid);
  EXPECT_LE(largest_difference(exact, single), 2 * 24 * 10 * std::ldexp(1.0, -23));
}

TEST(JointTable, DoesNotDependOnThreads) {
  for (const std::int64_t n : {1000, 100000}) {
    Pair pair(n, at::kFloat);
    set_thread_count(1);
    const at::Tensor serial = joint_table(pair.a, kGrid, pair.b, kGrid);
    set_thread_count(2);
    EXPECT_TRUE(at::equal(joint_table(pair.a, kGrid, pair.b, kGrid), serial)) << n;
    pair.a.set_requires_grad(true);
    EXPECT_TRUE(at::equal(joint_table(pair.a, kGrid, pair.b, kGrid).detach(), serial)) << n;
    set_thread_count(0);
  }
}

TEST(JointTable, HasAGradientWhereOneIsWanted) {
  Pair pair(50000, at::kFloat);
  pair.b.set_requires_grad(true);
  EXPECT_TRUE(joint_table(pair.a, kGrid, pair.b, kGrid).requires_grad());
  EXPECT_FALSE(joint_table(pair.a, kGrid, pair.a, kGrid).requires_grad());
  EXPECT_FALSE(joint_table(pair.a, kGrid, pair.a, kGrid).is_inference());
  const c10::InferenceMode inference;
  EXPECT_FALSE(joint_table(pair.a, kGrid, pair.b, kGrid).requires_grad());
}

TEST(JointTable, RefusesWhatDoesNotFit) {
  const at::Tensor values = at::ones({4});
  const auto table = [](const at::Tensor& a, const EntropyGrid& grid, const at::Tensor& b) {
    return [=] { joint_table(a, grid, b, grid); };
  };
  const ErrorKind invalid = ErrorKind::kInvalidArgument;
  expect_refused(table(values, kGrid, at::ones({5})), invalid, "equally many");
  expect_refused(table(at::ones({0}), kGrid, at::ones({0})), invalid, "and some");
  expect_refused(table(values, kGrid, values.to(at::kDouble)), invalid, "one type");
  expect_refused(table(values.to(at::kLong), kGrid, values), invalid, "float32 or float64");
  expect_refused(table(at::ones({2, 2}), kGrid, values), invalid, "expected shape [*]");
  expect_refused(table(values, {.step = 0.0}, values), invalid, "step and tau");
  expect_refused(table(values, {.step = 1.0, .tau = -1.0}, values), invalid, "step and tau");
  expect_refused(table(values, {.step = NAN}, values), invalid, "step and tau");
  expect_refused(table(values, kGrid, values / 0), ErrorKind::kCorrupt, "NaN or infinity");
  expect_refused([] { conditional_entropy(at::ones({8, 16})); }, invalid, "[16, 16]");
}

// H(b | a) = H(a, b) - H(a).
TEST(ConditionalEntropy, IsADifferenceOfEntropies) {
  const Pair pair(3000, at::kDouble);
  const at::Tensor table = joint_table(pair.a, kGrid, pair.b, kGrid);
  const auto entropy = [](const at::Tensor& shares) {
    return -at::xlogy(shares, shares).sum().item<double>();
  };
  EXPECT_NEAR(conditional_entropy(table).item<double>(), entropy(table) - entropy(table.sum(1)),
              1e-13);
}

TEST(ConditionalEntropy, IsZeroForAFunction) {
  const at::Tensor a = levels().repeat({50});
  const at::Tensor b = (a * a).remainder(16) - 8;
  const EntropyGrid grid{.step = 1.0, .tau = 0.01};  // neighbours of a level weigh exp(-100)
  EXPECT_NEAR(conditional_entropy(joint_table(a, grid, b, grid)).item<double>(), 0.0, 1e-14);
  // The other way round it is not one: 16 levels share the values of b.
  EXPECT_GT(conditional_entropy(joint_table(b, grid, a, grid)).item<double>(), 1.0);
}

TEST(ConditionalEntropy, IsLog16ForIndependentLevels) {
  const at::Tensor a = levels().repeat_interleave(16), b = levels().repeat({16});
  const EntropyGrid grid{.step = 1.0, .tau = 0.01};
  EXPECT_NEAR(conditional_entropy(joint_table(a, grid, b, grid)).item<double>(), std::log(16.0),
              1e-14);
}

TEST(ConditionalEntropy, IgnoresScale) {
  const Pair pair(20000, at::kFloat);
  Pair scaled = pair;
  scaled.a = pair.a * 0.125;
  scaled.b = pair.b * 0.125;
  EXPECT_EQ(entropy_of(scaled, {.step = 0.4 / 8}), entropy_of(pair));
  // Other factors round: in float64 exponents change by 24 * 10 * 2^-52, and the entropy by at
  // most log(1 / P) times that wherever P counts.
  Pair exact(20000, at::kDouble);
  const double expected = entropy_of(exact);
  exact.a = exact.a * 37.3;
  exact.b = exact.b * 37.3;
  EXPECT_NEAR(entropy_of(exact, {.step = 0.4 * 37.3}), expected, 1e-11);
}

// So that neither a longer prompt nor the order of its tokens matters.
TEST(ConditionalEntropy, IgnoresRepetitionAndOrder) {
  const Pair pair(20000, at::kDouble);
  const double expected = entropy_of(pair);
  Pair other = pair;
  other.a = pair.a.repeat({3});
  other.b = pair.b.repeat({3});
  EXPECT_NEAR(entropy_of(other), expected, 1e-11);
  const at::Tensor order = at::randperm(20000, at::kLong);
  other.a = pair.a.index_select(0, order);
  other.b = pair.b.index_select(0, order);
  EXPECT_NEAR(entropy_of(other), expected, 1e-11);
}

// Central differences with h = 1e-5: third derivatives are at most of the order of (6 / tau)^3 =
// 1e4 per step^3, divided by the 40 values; h^2 / 6 of that is 1e-8 with step 0.4. Rounding adds
// 1e-15 / h.
TEST(ConditionalEntropy, GradientIsThatOfFiniteDifferences) {
  Pair pair(40, at::kDouble);
  pair.a.set_requires_grad(true);
  pair.b.set_requires_grad(true);
  conditional_entropy(joint_table(pair.a, kGrid, pair.b, kGrid)).backward();
  constexpr double kStep = 1e-5;
  const Pair fixed(40, at::kDouble);
  for (std::int64_t i = 0; i < 40; ++i) {
    for (const bool first : {true, false}) {
      double change = 0.0;
      for (const double sign : {1.0, -1.0}) {
        Pair moved = fixed;
        at::Tensor& values = first ? moved.a : moved.b;
        values = values.clone();
        values[i] += sign * kStep;
        change += sign * entropy_of(moved);
      }
      const at::Tensor gradient = first ? pair.a.grad() : pair.b.grad();
      EXPECT_NEAR(gradient[i].item<double>(), change / (2 * kStep), 1e-7) << i << first;
    }
  }
}

TEST(ConditionalEntropy, GradientIsFiniteWhereSharesAreZero) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    at::Tensor table = at::zeros({16, 16}, type);
    table.index_put_({3, 4}, 1.0);
    table.set_requires_grad(true);
    const at::Tensor entropy = conditional_entropy(table);
    entropy.backward();
    EXPECT_EQ(entropy.item<double>(), 0.0);
    EXPECT_TRUE(table.grad().isfinite().all().item<bool>());
  }
}

TEST(LargestLevelShare, TellsACollapsedCode) {
  at::Tensor values = Pair(10000, at::kFloat).a;
  EXPECT_LT(largest_level_share(values, kGrid), 0.2);
  values[17] = 5000.0;
  // One outlier decides the range, 5000, of 7.5 steps: all others are within half a step of zero.
  EXPECT_DOUBLE_EQ(largest_level_share(values, {.step = 5000.0 / 7.5}), 0.9999);
  EXPECT_EQ(largest_level_share(at::full({5}, -99.0), kGrid), 1.0);
}

}  // namespace
}  // namespace qvlm
