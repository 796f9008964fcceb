// Coordinate descent over the settings of a block, for spaces too large to enumerate: one axis of
// one layer at a time, with everything else as it is.
#pragma once

#include "search/block_search.h"

namespace qvlm {

// Improves `start` (its settings, error and forwards) sweep by sweep until a sweep changes nothing
// or kMaxSweeps are done. A change runs the block from its layer on.
inline constexpr int kMaxSweeps = 4;
BlockResult search_by_descent(BlockTrial& trial, const Candidates& candidates, BlockResult start);

}  // namespace qvlm
