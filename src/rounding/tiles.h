// Lower triangles of large matrices, computed in tiles of rows: each on one thread, so that the
// order of sums does not depend on how many there are.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"
#include "tensor/tensor.h"

namespace qvlm {

inline constexpr std::int64_t kTile = 256;  // rows

// Calls fn(begin, end) for the tiles of the rows [first, n), the last one first: it has the longest
// rows.
template <typename Fn>
void for_tiles(std::int64_t first, std::int64_t n, const Fn& fn) {
  const std::int64_t tiles = (n - first + kTile - 1) / kTile;
  for_each_apart(tiles, [&](std::int64_t i) {
    const c10::InferenceMode inference;  // holds for this thread
    const std::int64_t begin = first + (tiles - 1 - i) * kTile;
    fn(begin, std::min(begin + kTile, n));
  });
}

}  // namespace qvlm
