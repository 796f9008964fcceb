// Blocks by equation 7 and the threshold that a budget buys, against brute force.
#include "planner/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "base/random.h"
#include "planner/compositions.h"

namespace qvlm {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const SearchCost kFiveCandidates{.candidates = 5};

std::vector<int> depths_of(const std::vector<Block>& blocks) {
  std::vector<int> depths;
  for (const Block& block : blocks)
    depths.push_back(block.depth);
  return depths;
}

std::vector<double> random_terms(int units, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> terms(static_cast<std::size_t>(units - 1));
  std::ranges::generate(terms, [&random] { return random.uniform(); });
  return terms;
}

// Small whole numbers, some below 0: sums are exact, and ties happen.
std::vector<double> whole_terms(int units, Random& random) {
  std::vector<double> terms(static_cast<std::size_t>(units - 1));
  std::ranges::generate(terms, [&random] { return static_cast<double>(random.below(9)) - 2.0; });
  return terms;
}

double cost_of(const std::vector<int>& depths) {
  double cost = 0.0;
  for (const int depth : depths)
    cost += kFiveCandidates.of_block(depth);
  return cost;
}

double gain_of(const std::vector<int>& depths, const std::vector<double>& terms) {
  double gain = 0.0;
  std::size_t first = 0;
  for (const int depth : depths) {
    for (int k = 0; k + 1 < depth; ++k)
      gain += terms[first + static_cast<std::size_t>(k)];
    first += static_cast<std::size_t>(depth);
  }
  return gain;
}

PlanNumbers numbers_of(const std::vector<double>& terms) {
  return {.units = static_cast<std::int64_t>(terms.size()) + 1, .dependency = terms};
}

// D(first, last) of method.md, section 3: by running sums.
class Dependency {
 public:
  explicit Dependency(const std::vector<double>& terms) : sums_(terms.size() + 1) {
    std::partial_sum(terms.begin(), terms.end(), sums_.begin() + 1);
  }
  int units() const { return static_cast<int>(sums_.size()); }
  double operator()(int first, int last) const {
    return sums_[static_cast<std::size_t>(last)] - sums_[static_cast<std::size_t>(first)];
  }
  double average(int first, int last) const { return (*this)(first, last) / (last - first); }

 private:
  std::vector<double> sums_;
};

// Equation 7 as it is printed: first .. last is a block when D(first, last) > (last - first) * h0
// and every shorter block from `first` was one.
bool is_block(const Dependency& dependency, int first, int last, double h0) {
  for (int end = first + 1; end <= last; ++end) {
    if (dependency(first, end) <= (end - first) * h0) return false;
  }
  return true;
}

std::vector<int> depths_by_reading(const Dependency& dependency, double h0, int max_depth) {
  std::vector<int> depths;
  for (int first = 0; first < dependency.units(); first += depths.back()) {
    int last = std::min(first + max_depth, dependency.units()) - 1;
    while (!is_block(dependency, first, last, h0))
      --last;
    depths.push_back(last - first + 1);
  }
  return depths;
}

// The thresholds [low, high) that make exactly these blocks; empty for blocks that none makes.
struct Interval {
  double low = -kInfinity;
  double high = kInfinity;
};
Interval thresholds_of(const std::vector<int>& depths,
                       const Dependency& dependency,
                       int max_depth) {
  Interval interval;
  int first = 0;
  for (const int depth : depths) {
    const int last = first + depth - 1;
    for (int end = first + 1; end <= last; ++end)
      interval.high = std::min(interval.high, dependency.average(first, end));
    if (depth < max_depth && last + 1 < dependency.units())
      interval.low = std::max(interval.low, dependency.average(first, last + 1));
    first += depth;
  }
  return interval;
}

// The best plan that a threshold makes: (gain, -cost, threshold) is largest.
struct Best {
  std::vector<int> depths;
  Interval thresholds;
  double gain = -kInfinity;
  double cost = kInfinity;
};
Best best_by_threshold(const std::vector<double>& terms, int max_depth, double budget) {
  const Dependency dependency(terms);
  Best best;
  for (const std::vector<int>& depths : all_compositions(dependency.units(), max_depth)) {
    const Interval thresholds = thresholds_of(depths, dependency, max_depth);
    const double cost = cost_of(depths);
    if (!(thresholds.low < thresholds.high) || cost > budget) continue;
    const double gain = gain_of(depths, terms);
    if (std::tuple(gain, -cost, thresholds.high) >
        std::tuple(best.gain, -best.cost, best.thresholds.high)) {
      best = {depths, thresholds, gain, cost};
    }
  }
  return best;
}

TEST(GroupUnitsTest, GrowsWhileTheSumIsAbove) {
  const std::vector<double> terms = {2.0, 0.6, 3.0, 0.2};
  EXPECT_THAT(depths_of(group_units(terms, 1.5, 3)), ElementsAre(2, 3));
  EXPECT_THAT(depths_of(group_units(terms, 1.2, 3)), ElementsAre(3, 1, 1));
  EXPECT_THAT(depths_of(group_units(terms, 0.0, 2)), ElementsAre(2, 2, 1));
  EXPECT_THAT(depths_of(group_units(terms, 2.0, 3)), ElementsAre(1, 1, 2, 1)) << "2 is not > 2";
  EXPECT_THAT(depths_of(group_units(terms, -kInfinity, 9)), ElementsAre(5));
  EXPECT_THAT(depths_of(group_units(terms, kInfinity, 9)), ElementsAre(1, 1, 1, 1, 1));
  EXPECT_THAT(depths_of(group_units({}, 0.0, 3)), ElementsAre(1));
}

TEST(GroupUnitsTest, IsEquation7) {
  Random random(1);
  for (int round = 0; round < 40; ++round) {
    const int units = 1 + static_cast<int>(random.below(12));
    for (const auto& terms : {random_terms(units, random.next()), whole_terms(units, random)}) {
      for (int max_depth = 1; max_depth <= 5; ++max_depth) {
        // Quarters times whole depths are exact, so ties of whole terms are ties for both.
        for (double h0 = -2.5; h0 <= 7.0; h0 += 0.25) {
          EXPECT_EQ(depths_of(group_units(terms, h0, max_depth)),
                    depths_by_reading(Dependency(terms), h0, max_depth));
        }
      }
    }
  }
}

TEST(GroupUnitsTest, ScalingDependencyAndThresholdChangesNothing) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::vector<double> terms = random_terms(16, seed);
    for (const double factor : {1e-9, 0.125, 3.7, 1e12}) {
      std::vector<double> scaled = terms;
      std::ranges::for_each(scaled, [factor](double& term) { term *= factor; });
      for (const double h0 : {0.21, 0.43, 0.5, 0.77}) {
        EXPECT_EQ(depths_of(group_units(scaled, h0 * factor, 3)),
                  depths_of(group_units(terms, h0, 3)));
      }
      const BlockPlan plan = make_plan({}, numbers_of(terms), kFiveCandidates);
      const BlockPlan same = make_plan({}, numbers_of(scaled), kFiveCandidates);
      EXPECT_EQ(depths_of(same.blocks), depths_of(plan.blocks));
      EXPECT_DOUBLE_EQ(*same.h0, *plan.h0 * factor);
    }
  }
}

TEST(GroupUnitsTest, ReasonsShowTheNumbers) {
  const std::vector<Block> blocks = group_units({2.0, 0.6, 3.0, 0.2, 0.1, 0.4}, 1.5, 3);
  ASSERT_THAT(depths_of(blocks), ElementsAre(2, 3, 1, 1));
  EXPECT_EQ(blocks[0].reason, "D = 2 > 1.5 = 1 * h0; layer 2 would need more than 3, has 2.6");
  EXPECT_EQ(blocks[1].reason, "D = 3.2 > 3 = 2 * h0; max_depth 3 reached");
  EXPECT_EQ(blocks[2].reason, "single: D = 0.4 <= 1.5 = h0 with layer 6");
  EXPECT_EQ(blocks[3].reason, "single: no layer is left");
  EXPECT_EQ(group_units({2.0}, 1.5, 1)[0].reason, "single: max_depth 1 reached");
  EXPECT_EQ(group_units({2.0}, 1.5, 2)[0].reason, "D = 2 > 1.5 = 1 * h0; no layer is left");
}

TEST(ThresholdTest, FindsTheBestPlanThatAThresholdMakes) {
  Random random(2);
  for (int round = 0; round < 60; ++round) {
    const int units = 1 + static_cast<int>(random.below(9));
    for (const auto& terms : {random_terms(units, random.next()), whole_terms(units, random)}) {
      for (int max_depth = 1; max_depth <= 4; ++max_depth) {
        const double share = random.uniform();
        const BlockPlan plan = make_plan({.max_depth = max_depth, .budget_share = share},
                                         numbers_of(terms), kFiveCandidates);
        const Best best = best_by_threshold(terms, max_depth, plan.budget);
        EXPECT_EQ(depths_of(plan.blocks), best.depths);
        EXPECT_EQ(plan.gain, best.gain);
        EXPECT_EQ(plan.cost, best.cost);
        EXPECT_GE(*plan.h0, best.thresholds.low);
        EXPECT_LT(*plan.h0, best.thresholds.high);
      }
    }
  }
}

TEST(ThresholdTest, ReportedThresholdMakesTheSamePlan) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const PlanNumbers numbers = numbers_of(random_terms(24, seed));
    PlanOptions options{.budget_share = 0.025 * static_cast<double>(seed)};
    const BlockPlan found = make_plan(options, numbers, kFiveCandidates);
    EXPECT_EQ(group_units(numbers.dependency, *found.h0, options.max_depth), found.blocks);
    options.h0 = found.h0;
    const BlockPlan given = make_plan(options, numbers, kFiveCandidates);
    EXPECT_EQ(given.blocks, found.blocks);
    EXPECT_EQ(given.gain, found.gain);
    EXPECT_EQ(given.cost, found.cost);
    EXPECT_EQ(given.budget, kInfinity);
  }
}

TEST(ThresholdTest, LiesHalfwayToTheNextOne) {
  // Averages of runs of one and two terms: 5, 3.5, 2, 1.5, 1.
  const PlanNumbers numbers = numbers_of({5.0, 2.0, 1.0});
  const auto h0 = [&](double budget) {
    return *make_plan({.budget = budget}, numbers, kFiveCandidates).h0;
  };
  EXPECT_EQ(h0(20), 7.5) << "half the largest average above it";
  EXPECT_EQ(h0(159), 4.25) << "a pair and two single units cost 40, a triple and one 160";
  EXPECT_EQ(h0(160), 2.75);
  EXPECT_EQ(*make_plan({.budget = 155.0}, numbers_of({1.0, 5.0}), kFiveCandidates).h0, 0.5)
      << "half the smallest average below it";
}

TEST(ThresholdTest, CostIsNotMonotoneInTheThreshold) {
  const PlanNumbers numbers = numbers_of({2.0, 1.5, 2.5, 1.5});
  const BlockPlan high = make_plan({.h0 = 1.875}, numbers, kFiveCandidates);
  const BlockPlan low = make_plan({.h0 = 1.625}, numbers, kFiveCandidates);
  EXPECT_THAT(depths_of(high.blocks), ElementsAre(2, 3));
  EXPECT_THAT(depths_of(low.blocks), ElementsAre(3, 1, 1));
  EXPECT_EQ(high.cost, 30 + 155);
  EXPECT_EQ(low.cost, 155 + 5 + 5) << "a lower threshold, yet cheaper";
  // So the search may not stop at the first threshold that costs too much.
  const BlockPlan found = make_plan({.budget = 170.0}, numbers, kFiveCandidates);
  EXPECT_EQ(depths_of(found.blocks), depths_of(low.blocks));
}

TEST(ThresholdTest, MoreBudgetNeverLowersTheGain) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const PlanNumbers numbers = numbers_of(random_terms(20, seed));
    double gain = 0.0;
    for (double budget = 100.0; budget <= 1100.0; budget += 25.0) {
      const BlockPlan plan = make_plan({.budget = budget}, numbers, kFiveCandidates);
      EXPECT_LE(plan.cost, budget);
      EXPECT_GE(plan.gain, gain);
      gain = plan.gain;
    }
  }
}

TEST(ThresholdTest, SharesOfNothingAndOfAll) {
  for (int units = 1; units <= 11; ++units) {
    // Averages of runs of 1.7 differ by rounding; a threshold between them would make threes.
    const PlanNumbers numbers =
        numbers_of(std::vector<double>(static_cast<std::size_t>(units - 1), 1.7));
    for (int max_depth = 1; max_depth <= 8; ++max_depth) {
      const BlockPlan none =
          make_plan({.max_depth = max_depth, .budget_share = 0.0}, numbers, kFiveCandidates);
      EXPECT_THAT(depths_of(none.blocks), Each(1));
      EXPECT_EQ(none.gain, 0.0);
      const BlockPlan most =
          make_plan({.max_depth = max_depth, .budget_share = 0.99}, numbers, kFiveCandidates);
      const BlockPlan all =
          make_plan({.max_depth = max_depth, .budget_share = 1.0}, numbers, kFiveCandidates);
      EXPECT_EQ(all.cost, cost_of_fixed(kFiveCandidates, units, max_depth));
      EXPECT_EQ(all.cost, all.budget);
      EXPECT_EQ(most.blocks, none.blocks) << "all blocks or none";
    }
  }
}

TEST(ThresholdTest, JoinsWhatPromisesNothingOnlyWhenTold) {
  const PlanNumbers numbers = numbers_of({0.0, -1.0, 0.0});
  EXPECT_THAT(depths_of(make_plan({.budget_share = 1.0}, numbers, kFiveCandidates).blocks),
              Each(1));
  EXPECT_THAT(depths_of(make_plan({.h0 = -2.0}, numbers, kFiveCandidates).blocks),
              ElementsAre(3, 1));
}

}  // namespace
}  // namespace qvlm
