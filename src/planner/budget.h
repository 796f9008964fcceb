// What a search costs, in layer-forwards: the cost unit of Q-VLM's tables. One layer-forward is one
// unit run once on the whole calibration batch. Which blocks such costs buy is planner/partition.h.
#pragma once

#include <qvlm/recipe.h>

#include <cstdint>

namespace qvlm {

// What decides how many forwards a block takes.
struct SearchCost {
  SearchMethod method = SearchMethod::kExhaustive;
  int candidates = 1;  // per unit
  int beam_width = 1;
  int coordinates = 1;  // kDescent: coordinates of a unit, each with `candidates` values
  int sweeps = 1;       // kDescent: sweeps that are expected

  // Returns the layer-forwards that the search of a block of `depth` units takes, beginnings run
  // once. Exhaustive: c + c^2 + ... + c^depth. Beam: at every depth c for each of at most
  // beam_width beginnings. Descent: the greedy combination (depth * c), then per sweep and
  // coordinate c - 1 runs of the rest of the block. A whole number, or infinity where a double
  // cannot hold it. Throws kInvalidArgument for a depth or a count that cannot be.
  double of_block(int depth) const;
};

// Returns the cost of `units` units in blocks of `depth`, the last one shorter.
double cost_of_fixed(const SearchCost& cost, std::int64_t units, int depth);

// Returns the layer-forwards that options allow: budget, or cost(depth 1) + budget_share *
// (cost(max_depth everywhere) - cost(depth 1)); infinite where h0 is given. Throws kInvalidArgument
// for h0 and budget together, NaN, a share outside [0, 1], or a share of an infinite cost.
double allowed_forwards(const PlanOptions& options, const SearchCost& cost, std::int64_t units);

}  // namespace qvlm
