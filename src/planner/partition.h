// Which decoder layers are searched jointly: numbers in, blocks out. Where the numbers come from is
// pipeline/dependencies.h; what a block costs is planner/budget.h. Q-VLM, section 3.2, with the
// choices of docs/method.md.
#pragma once

#include <qvlm/recipe.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/budget.h"

namespace qvlm {

// Units [first, first + depth) are searched together.
struct Block {
  std::int64_t first = 0;
  int depth = 1;
  std::string reason;  // one sentence for people: the numbers that made it, or that ended it

  friend bool operator==(const Block&, const Block&) = default;
};

struct BlockPlan {
  PlanStrategy strategy = PlanStrategy::kNone;
  std::optional<double> h0;   // the threshold in force; strategies without one: nothing
  double budget = 0.0;        // layer-forwards that were allowed; infinite with a given h0
  double cost = 0.0;          // layer-forwards that the search of these blocks takes
  double gain = 0.0;          // what the strategy promises; compare within a strategy only
  std::vector<Block> blocks;  // cover all units in order
};

// What a strategy knows about the units. It reads its own numbers and no others, so one set may
// serve all strategies.
struct PlanNumbers {
  std::int64_t units = 0;
  // kEntropy and kError: D(k, k+1) for k = 0 .. units - 2, entropies or errors.
  std::vector<double> dependency;
  // kOracle: gain[k][d] = measured gain of searching units [k, k + d + 1) jointly instead of one
  // after the other, d = 0 .. max_depth - 1 as far as there are units; gain[k][0] = 0.
  std::vector<std::vector<double>> gain;
};

// Groups units by equation 7: scanning from the first unit, a block grows while the sum of the
// dependencies inside it is above (depth - 1) * h0 and depth <= max_depth. Throws kInvalidArgument
// for max_depth < 1, a dependency that is not finite, or NaN.
std::vector<Block> group_units(const std::vector<double>& dependency, double h0, int max_depth);

// Plans by a strategy. Without options.h0 every threshold that makes a difference is tried, and the
// plan of the largest gain that costs at most the budget is taken (of equals the cheaper one, then
// the one with the higher h0): the cost is not monotone in h0. Thresholds that differ by rounding
// only are one. kOracle: the best of all partitions, of equals the cheaper one. kFixed with a
// budget: blocks of max_depth from the first unit on as long as the budget lasts, then single
// units. The gain is the sum of the strategy's numbers inside blocks; kFixed: the number of joined
// neighbours. Throws kInvalidArgument for numbers of the wrong length or not finite, units < 1,
// max_depth < 1, a budget below the cost of single units, and what allowed_forwards refuses.
BlockPlan make_plan(const PlanOptions& options, const PlanNumbers& numbers, const SearchCost& cost);

std::string_view strategy_name(PlanStrategy strategy);  // "entropy"
std::optional<PlanStrategy> find_strategy(std::string_view name);
inline constexpr std::string_view kStrategyNames = "none, fixed, random, error, entropy, oracle";

}  // namespace qvlm
