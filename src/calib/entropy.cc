#include "calib/entropy.h"

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "quant/grid.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

constexpr Scheme kLevels{.bits = 4, .symmetric = true};
static_assert(highest_code(kLevels) - lowest_code(kLevels) + 1 == kEntropyLevels);

constexpr double kReach = 3;            // levels further than this from the nearest get no weight
constexpr std::int64_t kBlock = 16384;  // values whose soft codes, 1 MB a side, stay in the cache

void check(const at::Tensor& values, const EntropyGrid& grid) {
  require_shape(values, "entropy: values", {kAnySize});
  require(values.scalar_type() == at::kFloat || values.scalar_type() == at::kDouble,
          ErrorKind::kInvalidArgument, "entropy: values: expected float32 or float64, got ",
          at::toString(values.scalar_type()));
  require(std::isfinite(grid.step) && grid.step > 0 && std::isfinite(grid.tau) && grid.tau > 0,
          ErrorKind::kInvalidArgument, "entropy: step and tau: expected positive numbers, got ",
          grid.step, " and ", grid.tau);
}

// The nearest levels of values in steps: whole numbers [n] of their type, without a gradient.
at::Tensor nearest_levels(const at::Tensor& steps) {
  require(steps.isfinite().all().item<bool>(), ErrorKind::kCorrupt,
          "entropy: values: NaN or infinity, or a step too small for them");
  return quantize(steps.detach(), {at::ones({}, steps.options()), {}}, kLevels);
}

bool needs_gradient(const at::Tensor& a, const at::Tensor& b) {
  return c10::AutogradState::get_tls_state().get_grad_mode() &&
         (a.requires_grad() || b.requires_grad());
}

}  // namespace

at::Tensor soft_codes(const at::Tensor& values, const EntropyGrid& grid) {
  check(values, grid);
  const at::Tensor steps = values / grid.step;
  const at::Tensor nearest = nearest_levels(steps);
  const at::Tensor u = steps - nearest;
  // With m = nearest + k, -(steps - m)^2 = -(u - k)^2 = 2 k u - k^2 - u^2. The last term is the
  // same for all levels; the rest is exact far outside the grid too, and never above zero.
  const at::Tensor levels =
      at::arange(lowest_code(kLevels), highest_code(kLevels) + 1, nearest.options());
  const at::Tensor k = levels - levels.unsqueeze(1);  // [nearest, level]
  const at::Tensor slopes = k * (2 / grid.tau);
  const at::Tensor offsets =
      (k.square() / -grid.tau)
          .masked_fill(k.abs() > kReach, -std::numeric_limits<double>::infinity());
  const at::Tensor rows = (nearest - lowest_code(kLevels)).to(at::kInt);
  return at::addcmul(offsets.index_select(0, rows), slopes.index_select(0, rows), u.unsqueeze(1))
      .softmax(1);
}

at::Tensor joint_table(const at::Tensor& a,
                       const EntropyGrid& grid_a,
                       const at::Tensor& b,
                       const EntropyGrid& grid_b) {
  check(a, grid_a);
  check(b, grid_b);
  const std::int64_t n = a.size(0);
  require(n > 0 && b.size(0) == n && b.scalar_type() == a.scalar_type(),
          ErrorKind::kInvalidArgument,
          "joint_table: expected equally many values of one type, and some; got ", n, " of ",
          at::toString(a.scalar_type()), " and ", b.size(0), " of ", at::toString(b.scalar_type()));
  const bool gradient = needs_gradient(a, b);
  const std::vector<at::Tensor> blocks_a = a.split(kBlock), blocks_b = b.split(kBlock);
  std::vector<at::Tensor> sums(blocks_a.size());
  for_each_apart(static_cast<std::int64_t>(sums.size()), [&](std::int64_t block) {
    const c10::InferenceMode mode(!gradient);  // holds for this thread
    const auto i = static_cast<std::size_t>(block);
    const at::Tensor codes_a = soft_codes(blocks_a[i], grid_a);
    sums[i] = codes_a.t().mm(soft_codes(blocks_b[i], grid_b)).to(at::kDouble);
  });
  at::Tensor total = sums.front();
  for (std::size_t i = 1; i < sums.size(); ++i)
    total = total + sums[i];
  return total / n;
}

at::Tensor conditional_entropy(const at::Tensor& table) {
  require_shape(table, "conditional_entropy: table", {kEntropyLevels, kEntropyLevels});
  // Keeps 0 log 0 and its gradient finite; a normal number in float32 too.
  constexpr double kSmallest = 1e-37;
  const at::Tensor rows = table.sum(1, /*keepdim=*/true);
  return -(table * (table.clamp_min(kSmallest).log() - rows.clamp_min(kSmallest).log())).sum();
}

double largest_level_share(const at::Tensor& values, const EntropyGrid& grid) {
  check(values, grid);
  require(values.size(0) > 0, ErrorKind::kInvalidArgument, "largest_level_share: no values");
  const at::Tensor rows = (nearest_levels(values / grid.step) - lowest_code(kLevels)).to(at::kLong);
  return rows.bincount().max().item<double>() / static_cast<double>(values.size(0));
}

}  // namespace qvlm
