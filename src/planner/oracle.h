// The best of all partitions for measured gains: an exact dynamic programme over (units, cost).
// Strategies that guess instead of measuring are planner/partition.h, which checks the numbers.
#pragma once

#include <vector>

#include "planner/partition.h"

namespace qvlm {

// Returns the partition of the largest gain that costs at most `budget`, of equals the cheaper one.
//   gain: as PlanNumbers::gain, checked
//   block_costs: [deepest block], layer-forwards of a block of depth 1, 2, ...
//   budget: at least the cost of single units
std::vector<Block> find_best_partition(const std::vector<std::vector<double>>& gain,
                                       const std::vector<double>& block_costs,
                                       double budget);

}  // namespace qvlm
