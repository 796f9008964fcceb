// Which of its candidates every unit gets under a budget of costs, or of error: numbers in, choices
// out. The errors come from pipeline/precision_run.h.
#pragma once

#include <cstdint>
#include <vector>

namespace qvlm {

// Units whose errors add up to something else than their sum: those of one block of the plan.
// Between blocks errors add.
struct AllocationBlock {
  std::vector<std::vector<std::int64_t>> cost;  // [unit][candidate], in bytes or whatever else
  // By pairs of (unit, candidate), units in order, the candidates of each together: on the diagonal
  // the error of one by itself, beside it half of what two of different units have more, or less,
  // together than each by itself. Symmetric.
  std::vector<std::vector<double>> error;
};

struct Allocation {
  std::vector<std::vector<int>> choices;  // [block][unit]: the candidate
  std::int64_t cost = 0;
  double error = 0.0;
};

// The smallest error of at most `cost`, of equal ones the cheapest; exact. Every combination of a
// block is looked at, and of all blocks together every cost that is worth its error.
// Throws kInvalidArgument where even the cheapest combination takes more, and for a block of more
// than 2^22 combinations. REQUIRES: as many candidates and numbers as AllocationBlock says, errors
// that are finite.
Allocation allocate_within_cost(const std::vector<AllocationBlock>& blocks, std::int64_t cost);

// The least cost of at most this error, likewise. Throws kInvalidArgument where every combination
// has more.
Allocation allocate_within_error(const std::vector<AllocationBlock>& blocks, double error);

}  // namespace qvlm
