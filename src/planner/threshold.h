// The threshold h0 of Q-VLM's equation 7: the blocks that one makes, and the one that a budget
// buys. Plans with reasons are planner/partition.h, which checks what comes in here.
#pragma once

#include <vector>

#include "planner/partition.h"

namespace qvlm {

// Returns group_units() without reasons.
//   terms: [units - 1], D(k, k+1)
std::vector<Block> grow_blocks(const std::vector<double>& terms, double h0, int max_depth);

// Returns the sum of the terms between units of one block.
double sum_inside(const std::vector<Block>& blocks, const std::vector<double>& terms);

// Returns the threshold whose blocks have the largest sum inside at a cost of at most `budget`, of
// equals the cheaper one, then the higher threshold.
//   block_costs: [min(max_depth, units)], layer-forwards of a block of depth 1, 2, ...
//   budget: at least the cost of single units
double find_threshold(const std::vector<double>& terms,
                      const std::vector<double>& block_costs,
                      int max_depth,
                      double budget);

}  // namespace qvlm
