#include "rounding/cholesky.h"

#include <algorithm>

#include "base/parallel.h"
#include "rounding/tiles.h"

namespace qvlm {
namespace {

// The factor of one tile on the diagonal.
bool factorize_tile(at::Tensor tile) {
  bool positive = false;
  for_each_apart(1, [&](std::int64_t) {
    const c10::InferenceMode inference;  // holds for this thread
    const auto [factor, info] = at::linalg_cholesky_ex(tile);
    positive = info.item<std::int64_t>() == 0 && factor.isfinite().all().item<bool>();
    tile.copy_(factor);
  });
  return positive;
}

}  // namespace

bool factorize_cholesky(at::Tensor& matrix) {
  const std::int64_t n = matrix.size(0);
  for (std::int64_t first = 0; first < n; first += kTile) {
    const std::int64_t next = std::min(first + kTile, n);
    at::Tensor columns = matrix.slice(1, first, next);
    const at::Tensor tile = columns.slice(0, first, next);
    if (!factorize_tile(tile)) return false;
    for_tiles(next, n, [&](std::int64_t begin, std::int64_t end) {
      const at::Tensor below = columns.slice(0, begin, end);
      below.copy_(at::linalg_solve_triangular(tile.t(), below, /*upper=*/true, /*left=*/false));
    });
    for_tiles(next, n, [&](std::int64_t begin, std::int64_t end) {
      matrix.slice(0, begin, end)
          .slice(1, next, end)
          .addmm_(columns.slice(0, begin, end), columns.slice(0, next, end).t(), 1, -1);
    });
  }
  return true;
}

}  // namespace qvlm
