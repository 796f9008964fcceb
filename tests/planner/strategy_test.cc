// What strategies do with the same units, measured gains against brute force, and every mistake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "planner/compositions.h"
#include "planner/partition.h"

namespace qvlm {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::array kAllStrategies = {PlanStrategy::kNone,    PlanStrategy::kFixed,
                                       PlanStrategy::kRandom,  PlanStrategy::kError,
                                       PlanStrategy::kEntropy, PlanStrategy::kOracle};
const SearchCost kFiveCandidates{.candidates = 5};

std::vector<int> depths_of(const BlockPlan& plan) {
  std::vector<int> depths;
  for (const Block& block : plan.blocks)
    depths.push_back(block.depth);
  return depths;
}

// Numbers for every strategy. Gains are multiples of 1/8: sums are exact, and ties happen.
PlanNumbers random_numbers(int units, int max_depth, Random& random) {
  PlanNumbers numbers{.units = units};
  for (int k = 0; k < units; ++k) {
    if (k > 0) numbers.dependency.push_back(random.uniform());
    std::vector<double>& row = numbers.gain.emplace_back(1, 0.0);
    for (int d = 1; d < std::min(max_depth, units - k); ++d)
      row.push_back((static_cast<double>(random.below(16)) - 3.0) / 8.0);
  }
  return numbers;
}

// (gain, -cost) of the best composition.
std::pair<double, double> best_of_all(const PlanNumbers& numbers,
                                      const SearchCost& cost,
                                      int max_depth,
                                      double budget) {
  std::pair<double, double> best(-kInfinity, -kInfinity);
  for (const std::vector<int>& depths :
       all_compositions(static_cast<int>(numbers.units), max_depth)) {
    std::pair<double, double> sum;
    std::size_t first = 0;
    for (const int depth : depths) {
      sum.first += numbers.gain[first][static_cast<std::size_t>(depth - 1)];
      sum.second -= cost.of_block(depth);
      first += static_cast<std::size_t>(depth);
    }
    if (-sum.second <= budget) best = std::max(best, sum);
  }
  return best;
}

// The best gain by a table over whole costs: the same optimum by another algorithm.
double best_by_table(const PlanNumbers& numbers, const SearchCost& cost, int budget) {
  const auto units = static_cast<std::size_t>(numbers.units);
  std::vector<std::vector<double>> table(
      units + 1, std::vector<double>(static_cast<std::size_t>(budget) + 1, -kInfinity));
  std::ranges::fill(table[units], 0.0);
  for (std::size_t k = units; k-- > 0;) {
    for (std::size_t d = 0; d < numbers.gain[k].size(); ++d) {
      const auto forwards = static_cast<std::size_t>(cost.of_block(static_cast<int>(d) + 1));
      for (std::size_t left = forwards; left <= static_cast<std::size_t>(budget); ++left) {
        const double gain = numbers.gain[k][d] + table[k + d + 1][left - forwards];
        table[k][left] = std::max(table[k][left], gain);
      }
    }
  }
  return table[0][static_cast<std::size_t>(budget)];
}

std::string message_of(const PlanOptions& options,
                       const PlanNumbers& numbers,
                       const SearchCost& cost = kFiveCandidates) {
  try {
    make_plan(options, numbers, cost);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(StrategyTest, BlocksCoverAllUnitsInOrder) {
  Random random(3);
  for (const PlanStrategy strategy : kAllStrategies) {
    for (int round = 0; round < 100; ++round) {
      const int units = 1 + static_cast<int>(random.below(20));
      const int max_depth = 1 + static_cast<int>(random.below(5));
      const PlanNumbers numbers = random_numbers(units, max_depth, random);
      const PlanOptions options{.strategy = strategy,
                                .max_depth = max_depth,
                                .budget_share = random.uniform(),
                                .seed = random.next()};
      const BlockPlan plan = make_plan(options, numbers, kFiveCandidates);
      std::int64_t next = 0;
      double cost = 0.0;
      for (const Block& block : plan.blocks) {
        EXPECT_EQ(block.first, next);
        EXPECT_TRUE(block.depth >= 1 && block.depth <= max_depth);
        EXPECT_FALSE(block.reason.empty());
        next += block.depth;
        cost += kFiveCandidates.of_block(block.depth);
      }
      EXPECT_EQ(next, units);
      EXPECT_EQ(plan.strategy, strategy);
      EXPECT_EQ(plan.cost, cost);
      EXPECT_LE(plan.cost, plan.budget);
      EXPECT_EQ(plan.budget, allowed_forwards(options, kFiveCandidates, units));
    }
  }
}

TEST(StrategyTest, OnlyThresholdStrategiesHaveAThreshold) {
  Random random(4);
  const PlanNumbers numbers = random_numbers(8, 3, random);
  for (const PlanStrategy strategy : kAllStrategies) {
    const bool wants = strategy == PlanStrategy::kRandom || strategy == PlanStrategy::kError ||
                       strategy == PlanStrategy::kEntropy;
    EXPECT_EQ(make_plan({.strategy = strategy}, numbers, kFiveCandidates).h0.has_value(), wants);
    EXPECT_EQ(make_plan({.strategy = strategy, .h0 = 0.5}, numbers, kFiveCandidates).h0.has_value(),
              wants);
  }
}

TEST(StrategyTest, ErrorAndEntropyDifferInTheirNumbersOnly) {
  Random random(5);
  const PlanNumbers numbers = random_numbers(16, 3, random);
  const BlockPlan error = make_plan({.strategy = PlanStrategy::kError}, numbers, kFiveCandidates);
  const BlockPlan entropy = make_plan({}, numbers, kFiveCandidates);
  EXPECT_EQ(error.blocks, entropy.blocks);
  EXPECT_EQ(error.h0, entropy.h0);
  EXPECT_EQ(error.gain, entropy.gain);
}

TEST(StrategyTest, NoneSearchesEveryLayerForItself) {
  const BlockPlan plan = make_plan({.strategy = PlanStrategy::kNone, .budget_share = 1.0},
                                   {.units = 6}, kFiveCandidates);
  EXPECT_THAT(depths_of(plan), ElementsAre(1, 1, 1, 1, 1, 1));
  EXPECT_EQ(plan.cost, 30);
  EXPECT_EQ(plan.gain, 0);
}

TEST(StrategyTest, FixedJoinsFromTheFirstUnitAsLongAsTheBudgetLasts) {
  const auto fixed = [](PlanOptions options) {
    options.strategy = PlanStrategy::kFixed;
    return make_plan(options, {.units = 8}, kFiveCandidates);
  };
  EXPECT_THAT(depths_of(fixed({.budget_share = 1.0})), ElementsAre(3, 3, 2));
  EXPECT_EQ(fixed({.budget_share = 1.0}).gain, 5);
  EXPECT_THAT(depths_of(fixed({.budget_share = 0.0})), Each(1));
  EXPECT_EQ(fixed({.budget_share = 0.0}).gain, 0);
  EXPECT_THAT(depths_of(fixed({.budget = 179.0})), Each(1)) << "155 + 5 * 5 = 180";
  EXPECT_THAT(depths_of(fixed({.budget = 180.0})), ElementsAre(3, 1, 1, 1, 1, 1));
  EXPECT_THAT(depths_of(fixed({.budget = 339.0})), ElementsAre(3, 3, 1, 1));
  EXPECT_THAT(depths_of(fixed({.budget = 340.0})), ElementsAre(3, 3, 2));
  EXPECT_THAT(depths_of(fixed({.max_depth = 99, .budget = 1e9})), ElementsAre(8));
  const BlockPlan given = fixed({.h0 = 1.0});
  EXPECT_THAT(depths_of(given), ElementsAre(3, 3, 2));
  EXPECT_EQ(given.budget, kInfinity);
  EXPECT_EQ(
      fixed({.budget = 180.0}).blocks[1].reason,
      "single: layers 3 to 5 together would bring the cost to 320 layer-forwards, allowed are "
      "180");
}

TEST(StrategyTest, RandomDependsOnItsSeedOnly) {
  Random random(6);
  const auto drawn = [](std::uint64_t seed, const PlanNumbers& numbers) {
    return make_plan({.strategy = PlanStrategy::kRandom, .seed = seed}, numbers, kFiveCandidates);
  };
  const BlockPlan plan = drawn(1, {.units = 32});
  EXPECT_EQ(drawn(1, random_numbers(32, 3, random)).blocks, plan.blocks);
  EXPECT_NE(drawn(2, {.units = 32}).blocks, plan.blocks);
  // The draws are those of base/random.h.
  Random draws(1);
  std::vector<double> terms(31);
  std::ranges::generate(terms, [&draws] { return draws.uniform(); });
  EXPECT_EQ(group_units(terms, *plan.h0, 3), plan.blocks);
  EXPECT_GT(plan.gain, 0.0);
}

TEST(OracleTest, EqualsBruteForce) {
  Random random(7);
  const std::vector<SearchCost> costs = {
      {.candidates = 5},
      {.candidates = 1},
      {.method = SearchMethod::kBeam, .candidates = 3, .beam_width = 2},
      {.method = SearchMethod::kDescent, .candidates = 4, .coordinates = 7}};
  for (int round = 0; round < 150; ++round) {
    const int units = 1 + static_cast<int>(random.below(10));
    const int max_depth = 1 + static_cast<int>(random.below(4));
    const PlanNumbers numbers = random_numbers(units, max_depth, random);
    const SearchCost& cost = costs[random.below(costs.size())];
    const PlanOptions options{.strategy = PlanStrategy::kOracle,
                              .max_depth = max_depth,
                              .budget_share = random.uniform()};
    const BlockPlan plan = make_plan(options, numbers, cost);
    const auto [gain, minus_cost] = best_of_all(numbers, cost, max_depth, plan.budget);
    EXPECT_EQ(plan.gain, gain);
    EXPECT_EQ(plan.cost, -minus_cost) << "of equals the cheaper one";
  }
}

TEST(OracleTest, EqualsATableOverCosts) {
  Random random(8);
  const PlanNumbers numbers = random_numbers(48, 4, random);
  for (const int budget : {240, 300, 1000, 2000, 5000}) {
    const PlanOptions options{.strategy = PlanStrategy::kOracle,
                              .max_depth = 4,
                              .budget = static_cast<double>(budget) + 0.5};
    EXPECT_EQ(make_plan(options, numbers, kFiveCandidates).gain,
              best_by_table(numbers, kFiveCandidates, budget));
  }
}

// A table over 5^32 forwards could not exist.
TEST(OracleTest, PlansDeepBlocksOfManyUnits) {
  Random random(9);
  const PlanNumbers numbers = random_numbers(120, 32, random);
  PlanOptions options{.strategy = PlanStrategy::kOracle, .max_depth = 32, .budget = 5000.0};
  const BlockPlan plan = make_plan(options, numbers, kFiveCandidates);
  EXPECT_LE(plan.cost, 5000.0);
  options.budget = kInfinity;
  EXPECT_GE(make_plan(options, numbers, kFiveCandidates).gain, plan.gain);
}

TEST(OracleTest, NeverLosesToAThresholdOnItsOwnGains) {
  Random random(10);
  for (int round = 0; round < 50; ++round) {
    PlanNumbers numbers{.units = 12};
    for (int k = 0; k + 1 < 12; ++k)
      numbers.dependency.push_back(static_cast<double>(random.below(64)) / 64.0);
    for (std::size_t k = 0; k < 12; ++k) {
      std::vector<double>& row = numbers.gain.emplace_back(1, 0.0);
      while (row.size() < std::min<std::size_t>(3, 12 - k))
        row.push_back(row.back() + numbers.dependency[k + row.size() - 1]);
    }
    const double share = random.uniform();
    const BlockPlan entropy = make_plan({.budget_share = share}, numbers, kFiveCandidates);
    const BlockPlan oracle = make_plan({.strategy = PlanStrategy::kOracle, .budget_share = share},
                                       numbers, kFiveCandidates);
    EXPECT_GE(oracle.gain, entropy.gain);
    EXPECT_LE(oracle.cost, oracle.budget);
  }
}

TEST(OracleTest, ReasonsShowTheNumbers) {
  const PlanNumbers numbers{.units = 3, .gain = {{0, 0.25, 0.375}, {0, 0.125}, {0}}};
  const BlockPlan plan =
      make_plan({.strategy = PlanStrategy::kOracle, .budget = 40.0}, numbers, kFiveCandidates);
  ASSERT_THAT(depths_of(plan), ElementsAre(2, 1));
  EXPECT_EQ(plan.blocks[0].reason, "measured gain 0.25 for 30 layer-forwards instead of 10");
  EXPECT_EQ(plan.blocks[1].reason, "single: 5 layer-forwards");
  EXPECT_EQ(
      make_plan({.strategy = PlanStrategy::kOracle, .budget = 39.0}, numbers, {.candidates = 6})
          .blocks[0]
          .reason,
      "single: with layer 1 the gain would be 0.25 for 42 layer-forwards instead of 12");
}

TEST(StrategyTest, NamesWrongNumbers) {
  const PlanOptions entropy;
  EXPECT_THAT(message_of(entropy, {.units = 4, .dependency = {1, 2}}),
              HasSubstr("4 units have 3 dependencies, got 2"));
  EXPECT_THAT(message_of(entropy, {.units = 3, .dependency = {1, kNan}}),
              AllOf(HasSubstr("D(1, 2)"), HasSubstr("nan")));
  EXPECT_THAT(message_of(entropy, {.units = 3, .dependency = {kInfinity, 1}}),
              HasSubstr("D(0, 1)"));
  EXPECT_THAT(message_of(entropy, {.units = 0}), HasSubstr("units"));
  EXPECT_THROW(group_units({kNan}, 0.0, 3), Error);
  EXPECT_THROW(group_units({1.0}, kNan, 3), Error);
  EXPECT_THROW(group_units({1.0}, 0.0, 0), Error);

  const PlanOptions oracle{.strategy = PlanStrategy::kOracle, .max_depth = 2};
  EXPECT_THAT(message_of(oracle, {.units = 2}), HasSubstr("2 units, got 0"));
  EXPECT_THAT(message_of(oracle, {.units = 2, .gain = {{0, 1}, {0, 1}}}),
              HasSubstr("gain[1] must have 1 values, got 2"));
  EXPECT_THAT(message_of(oracle, {.units = 2, .gain = {{0, kNan}, {0}}}), HasSubstr("gain[0][1]"));
  EXPECT_THAT(message_of(oracle, {.units = 2, .gain = {{0, 1}, {0.5}}}), HasSubstr("gain[1][0]"));
}

TEST(StrategyTest, NamesWrongOptions) {
  const PlanNumbers numbers{.units = 4, .dependency = {1, 2, 3}};
  EXPECT_THAT(message_of({.max_depth = 0}, numbers), HasSubstr("max_depth"));
  EXPECT_THAT(message_of({.budget_share = 2.0}, numbers), HasSubstr("budget_share"));
  EXPECT_THAT(message_of({.h0 = 1.0, .budget = 100.0}, numbers), HasSubstr("h0 or budget"));
  EXPECT_THAT(message_of({}, numbers, {.candidates = 0}), HasSubstr("candidate"));
  for (const PlanStrategy strategy : kAllStrategies) {
    EXPECT_THAT(message_of({.strategy = strategy, .budget = 19.5}, numbers),
                AllOf(HasSubstr("at least 20"), HasSubstr("4 single units"), HasSubstr("19.5")));
  }
}

TEST(StrategyTest, NamesRoundTrip) {
  std::string names;
  for (const PlanStrategy strategy : kAllStrategies) {
    EXPECT_EQ(find_strategy(strategy_name(strategy)), strategy);
    names += (names.empty() ? "" : ", ") + std::string(strategy_name(strategy));
  }
  EXPECT_EQ(names, kStrategyNames);
  EXPECT_EQ(find_strategy("Entropy"), std::nullopt);
  EXPECT_EQ(find_strategy(""), std::nullopt);
}

}  // namespace
}  // namespace qvlm
