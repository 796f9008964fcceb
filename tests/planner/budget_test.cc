// Costs: every formula against a search that really runs and counts.
#include "planner/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace qvlm {
namespace {

using testing::HasSubstr;

using Choices = std::vector<int>;  // of the units so far

// Exhaustive search: runs every unit after every beginning, once.
void enumerate(const Choices& beginning,
               int candidates,
               std::size_t depth,
               std::set<Choices>& ran) {
  if (beginning.size() == depth) return;
  for (int candidate = 0; candidate < candidates; ++candidate) {
    Choices longer = beginning;
    longer.push_back(candidate);
    EXPECT_TRUE(ran.insert(longer).second) << "a beginning ran twice";
    enumerate(longer, candidates, depth, ran);
  }
}

// Beam search with random errors: the forwards that it takes.
int run_beam(int candidates, int width, int depth) {
  Random random(7);
  int forwards = 0;
  std::size_t beginnings = 1;
  for (int unit = 0; unit < depth; ++unit) {
    std::vector<double> errors;
    for (std::size_t beginning = 0; beginning < beginnings; ++beginning) {
      for (int candidate = 0; candidate < candidates; ++candidate, ++forwards)
        errors.push_back(random.uniform());
    }
    std::ranges::sort(errors);
    errors.resize(std::min(errors.size(), static_cast<std::size_t>(width)));
    beginnings = errors.size();
  }
  return forwards;
}

// Runs units [first, depth): what one forward of the rest of a block takes.
int run_rest(int first, int depth) {
  return depth - first;
}

// One coordinate at a time after the greedy combination.
int run_descent(const SearchCost& cost, int depth) {
  int forwards = 0;
  for (int unit = 0; unit < depth; ++unit) {
    for (int candidate = 0; candidate < cost.candidates; ++candidate)
      forwards += run_rest(unit, unit + 1);
  }
  for (int sweep = 0; sweep < cost.sweeps; ++sweep) {
    for (int coordinate = 0; coordinate < depth * cost.coordinates; ++coordinate) {
      for (int other = 1; other < cost.candidates; ++other)
        forwards += run_rest(coordinate / cost.coordinates, depth);
    }
  }
  return forwards;
}

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(SearchCostTest, ExhaustiveRunsEveryBeginningOnce) {
  EXPECT_EQ((SearchCost{.candidates = 5}.of_block(3)), 5 + 25 + 125);
  for (int candidates = 1; candidates <= 4; ++candidates) {
    for (int depth = 1; depth <= 4; ++depth) {
      std::set<Choices> ran;
      enumerate({}, candidates, static_cast<std::size_t>(depth), ran);
      EXPECT_EQ((SearchCost{.candidates = candidates}.of_block(depth)), ran.size());
    }
  }
}

TEST(SearchCostTest, BeamKeepsItsWidth) {
  const SearchCost beam{.method = SearchMethod::kBeam, .candidates = 5, .beam_width = 7};
  EXPECT_EQ(beam.of_block(4), 5 + 5 * 5 + 7 * 5 + 7 * 5);
  for (int candidates = 1; candidates <= 4; ++candidates) {
    for (int width = 1; width <= 9; ++width) {
      const SearchCost cost{SearchMethod::kBeam, candidates, width};
      for (int depth = 1; depth <= 5; ++depth)
        EXPECT_EQ(cost.of_block(depth), run_beam(candidates, width, depth));
    }
  }
}

TEST(SearchCostTest, BeamThatHoldsAllIsExhaustive) {
  const SearchCost beam{.method = SearchMethod::kBeam, .candidates = 3, .beam_width = 27};
  EXPECT_EQ(beam.of_block(4), (SearchCost{.candidates = 3}.of_block(4)));
  EXPECT_LT(beam.of_block(5), (SearchCost{.candidates = 3}.of_block(5)));
}

TEST(SearchCostTest, DescentRunsTheRestOfTheBlock) {
  for (const int candidates : {1, 2, 5}) {
    for (const int coordinates : {1, 7}) {
      for (const int sweeps : {0, 1, 3}) {
        const SearchCost cost{SearchMethod::kDescent, candidates, 1, coordinates, sweeps};
        for (int depth = 1; depth <= 5; ++depth)
          EXPECT_EQ(cost.of_block(depth), run_descent(cost, depth));
      }
    }
  }
}

// What plans rely on: blocks never cost less than their units one by one.
TEST(SearchCostTest, JoiningNeverSaves) {
  for (const SearchMethod method :
       {SearchMethod::kExhaustive, SearchMethod::kBeam, SearchMethod::kDescent}) {
    for (int candidates = 1; candidates <= 6; ++candidates) {
      const SearchCost cost{method, candidates, 2, 3, 2};
      for (int depth = 2; depth <= 5; ++depth)
        EXPECT_GE(cost.of_block(depth), cost.of_block(depth - 1) + cost.of_block(1));
    }
  }
}

TEST(SearchCostTest, HugeCostsAreNotNegative) {
  const SearchCost cost{.candidates = 5};
  EXPECT_DOUBLE_EQ(cost.of_block(32), (std::pow(5.0, 33) - 5.0) / 4.0);
  EXPECT_EQ(cost.of_block(1000), std::numeric_limits<double>::infinity());
}

TEST(SearchCostTest, NamesACountThatCannotBe) {
  const auto message = [](const SearchCost& cost, int depth) {
    return message_of([&] { cost.of_block(depth); });
  };
  EXPECT_THAT(message({}, 0), HasSubstr("depth"));
  EXPECT_THAT(message({.candidates = 0}, 1), HasSubstr("candidate, got 0"));
  EXPECT_THAT(message({.beam_width = 0}, 1), HasSubstr("beam_width"));
  EXPECT_THAT(message({.coordinates = -1}, 1), HasSubstr("coordinate, got -1"));
  EXPECT_THAT(message({.sweeps = -1}, 1), HasSubstr("sweeps"));
}

TEST(FixedCostTest, LastBlockIsShorter) {
  const SearchCost cost{.candidates = 5};
  EXPECT_EQ(cost_of_fixed(cost, 8, 3), 155 + 155 + 30);
  EXPECT_EQ(cost_of_fixed(cost, 9, 3), 3 * 155);
  EXPECT_EQ(cost_of_fixed(cost, 8, 1), 8 * 5);
  EXPECT_EQ(cost_of_fixed(cost, 2, 100), 30);
  EXPECT_THAT(message_of([&] { cost_of_fixed(cost, 8, 0); }), HasSubstr("depth"));
}

TEST(AllowedForwardsTest, IsTheBudgetTheShareOrNoLimit) {
  const SearchCost cost{.candidates = 5};
  const auto allowed = [&](const PlanOptions& options) {
    return allowed_forwards(options, cost, 8);
  };
  EXPECT_EQ(allowed({.budget = 123.5}), 123.5);
  EXPECT_EQ(allowed({.h0 = 0.5}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(allowed({.budget_share = 0.0}), 40);
  EXPECT_EQ(allowed({.budget_share = 1.0}), 340);
  EXPECT_EQ(allowed({.budget_share = 0.25}), 40 + 0.25 * 300);
  EXPECT_EQ(allowed({.max_depth = 1, .budget_share = 0.25}), 40);
}

TEST(AllowedForwardsTest, NamesWhatIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto message = [](const PlanOptions& options) {
    return message_of([&] { allowed_forwards(options, {.candidates = 5}, 1000); });
  };
  EXPECT_THAT(message({.h0 = 1.0, .budget = 1.0}), HasSubstr("h0 or budget"));
  EXPECT_THAT(message({.h0 = nan}), HasSubstr("h0"));
  EXPECT_THAT(message({.budget = nan}), HasSubstr("budget"));
  EXPECT_THAT(message({.budget_share = nan}), HasSubstr("budget_share"));
  EXPECT_THAT(message({.budget_share = 1.01}), HasSubstr("budget_share"));
  EXPECT_THAT(message({.budget_share = -0.01}), HasSubstr("budget_share"));
  EXPECT_THAT(message({.max_depth = 0}), HasSubstr("depth"));
  EXPECT_THAT(message({.max_depth = 1000}), HasSubstr("max_depth 1000"));
}

}  // namespace
}  // namespace qvlm
