// Allocations against every combination of all blocks, one by one.
#include "planner/allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/random.h"

namespace qvlm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Units of 2 or 3 candidates, more cost with each. Errors are multiples of 1/8, so that sums are
// exact and ties happen; the ones beside the diagonal may be negative.
AllocationBlock random_block(int units, Random& random) {
  AllocationBlock block;
  std::size_t rows = 0;
  for (int unit = 0; unit < units; ++unit) {
    std::int64_t cost = 1 + static_cast<std::int64_t>(random.below(4));
    std::vector<std::int64_t>& candidates = block.cost.emplace_back();
    const int count = 2 + static_cast<int>(random.below(2));
    for (int i = 0; i < count; ++i)
      candidates.push_back(cost += static_cast<std::int64_t>(random.below(5)));
    rows += candidates.size();
  }
  block.error.assign(rows, std::vector<double>(rows, 0.0));
  for (std::size_t i = 0; i < rows; ++i) {
    block.error[i][i] = 4.0 + static_cast<double>(random.below(32)) / 8.0;
    for (std::size_t j = 0; j < i; ++j)
      block.error[i][j] = block.error[j][i] = static_cast<double>(random.below(9)) / 8.0 - 0.5;
  }
  return block;
}

struct Sum {
  std::int64_t cost = 0;
  double error = 0.0;
};

Sum sum_of(const AllocationBlock& block, const std::vector<int>& choice) {
  std::vector<std::size_t> rows;
  std::size_t row = 0;
  Sum sum;
  for (std::size_t unit = 0; unit < choice.size(); ++unit) {
    const auto candidate = static_cast<std::size_t>(choice[unit]);
    sum.cost += block.cost[unit][candidate];
    rows.push_back(row + candidate);
    row += block.cost[unit].size();
  }
  for (const std::size_t a : rows) {
    for (const std::size_t b : rows)
      sum.error += block.error[a][b];
  }
  sum.error = std::max(sum.error, 0.0);
  return sum;
}

Sum sum_of(const std::vector<AllocationBlock>& blocks, const Allocation& allocation) {
  Sum total;
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const Sum sum = sum_of(blocks[b], allocation.choices.at(b));
    total.cost += sum.cost;
    total.error += sum.error;
  }
  return total;
}

// Sums of all combinations of these blocks.
std::vector<Sum> all_sums(const std::vector<AllocationBlock>& blocks) {
  std::vector<Sum> sums = {Sum{}};
  for (const AllocationBlock& block : blocks) {
    std::vector<std::vector<int>> choices = {{}};
    for (const auto& candidates : block.cost) {
      std::vector<std::vector<int>> longer;
      for (const std::vector<int>& choice : choices) {
        for (std::size_t i = 0; i < candidates.size(); ++i) {
          longer.push_back(choice);
          longer.back().push_back(static_cast<int>(i));
        }
      }
      choices = std::move(longer);
    }
    std::vector<Sum> next;
    for (const Sum& before : sums) {
      for (const std::vector<int>& choice : choices) {
        const Sum own = sum_of(block, choice);
        next.push_back({before.cost + own.cost, before.error + own.error});
      }
    }
    sums = std::move(next);
  }
  return sums;
}

TEST(AllocationTest, IsTheBestOfAllCombinations) {
  Random random(11);
  for (int round = 0; round < 60; ++round) {
    const std::vector<AllocationBlock> blocks = {random_block(1 + round % 3, random),
                                                 random_block(2, random), random_block(1, random)};
    const std::vector<Sum> sums = all_sums(blocks);
    const Sum& some = sums[random.below(sums.size())];
    // The least error of at most this cost, and the least cost with it.
    Sum best{0, kInfinity};
    for (const Sum& sum : sums) {
      if (sum.cost > some.cost) continue;
      if (sum.error < best.error || (sum.error == best.error && sum.cost < best.cost)) best = sum;
    }
    const Allocation found = allocate_within_cost(blocks, some.cost);
    EXPECT_EQ(found.error, best.error);
    EXPECT_EQ(found.cost, best.cost);
    EXPECT_EQ(sum_of(blocks, found).error, found.error);
    EXPECT_EQ(sum_of(blocks, found).cost, found.cost);
    // The least cost of so much error.
    std::int64_t fewest = std::numeric_limits<std::int64_t>::max();
    for (const Sum& sum : sums) {
      if (sum.error <= some.error) fewest = std::min(fewest, sum.cost);
    }
    const Allocation small = allocate_within_error(blocks, some.error);
    EXPECT_EQ(small.cost, fewest);
    EXPECT_LE(small.error, some.error);
    EXPECT_EQ(sum_of(blocks, small).cost, small.cost);
  }
}

// Two units whose errors undo each other are worth keeping together.
TEST(AllocationTest, LooksAtWhatUnitsOfABlockDoTogether) {
  AllocationBlock block;
  block.cost = {{1, 2}, {1, 2}};
  block.error = {{1, 0, -1, 0}, {0, 0, 0, 0}, {-1, 0, 1, 0}, {0, 0, 0, 0}};
  EXPECT_THAT(allocate_within_cost({block}, 3).choices.front(), ElementsAre(0, 0));
  block.error[0][2] = block.error[2][0] = 0.0;
  EXPECT_EQ(allocate_within_cost({block}, 3).error, 1.0);
  EXPECT_EQ(allocate_within_cost({block}, 3).cost, 3);
}

TEST(AllocationTest, RefusesWhatCannotBe) {
  AllocationBlock block;
  block.cost = {{10, 20}};
  block.error = {{0.5, 0}, {0, 0.25}};
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message([&] {
                allocate_within_cost({block, block}, 19);
              }),
              HasSubstr("the smallest candidates cost 20, the target leaves them 19"));
  EXPECT_THAT(message([&] {
                allocate_within_error({block, block}, 0.4);
              }),
              HasSubstr("the least is 0.5"));
  block.cost.assign(23, {1, 2});
  block.error.assign(46, std::vector<double>(46, 0.0));
  EXPECT_THAT(message([&] { allocate_within_cost({block}, 100); }), HasSubstr("combinations"));
}

}  // namespace
}  // namespace qvlm
