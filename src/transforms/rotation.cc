#include "transforms/rotation.h"

#include <algorithm>

#include "base/random.h"
#include "quant/hadamard_rows.h"

namespace qvlm {
namespace {

at::Tensor random_signs(std::int64_t width, Random& random) {
  std::vector<float> signs(static_cast<std::size_t>(width));
  for (float& sign : signs)
    sign = random.below(2) == 0 ? 1.0f : -1.0f;
  return at::tensor(signs);
}

// The largest number of values, at most `width`, that one matrix mixes all of.
std::int64_t largest_whole(std::int64_t width) {
  while (kernels::make_hadamard(width).width != width)
    --width;
  return width;
}

constexpr std::int64_t kValuesAtATime = 1 << 20;

}  // namespace

at::Tensor channel_mask(std::int64_t width, const std::vector<std::int64_t>& channels) {
  at::Tensor mask = at::zeros({width}, at::kBool);
  for (const std::int64_t channel : channels)
    mask[channel] = true;
  return mask;
}

// A number of places that no matrix has is mixed by two, of the first and of the last ones.
Rotation::Rotation(std::int64_t width, std::uint64_t seed, const std::vector<std::int64_t>& apart)
    : width_(width) {
  Random random(seed);
  if (apart.empty()) {
    turns_.push_back({0, random_signs(width, random), kernels::make_hadamard(width)});
    return;
  }
  mixed_ = channel_mask(width, apart).logical_not().nonzero().flatten();
  const std::int64_t mixed = mixed_.size(0);
  if (mixed == 0) return;
  const std::int64_t whole = largest_whole(mixed);
  turns_.push_back({0, random_signs(whole, random), kernels::make_hadamard(whole)});
  if (whole == mixed) return;
  turns_.push_back({mixed - whole, random_signs(whole, random), kernels::make_hadamard(whole)});
}

at::Tensor Rotation::turned(const at::Tensor& runs) const {
  if (!mixed_.defined()) return hadamard_rows(runs * turns_.front().signs, turns_.front().hadamard);
  at::Tensor values = runs.index_select(1, mixed_);
  for (const Turn& turn : turns_) {
    at::Tensor part = values.slice(1, turn.first, turn.first + turn.signs.size(0));
    part.copy_(hadamard_rows(part * turn.signs, turn.hadamard));
  }
  return runs.index_copy(1, mixed_, values);
}

at::Tensor Rotation::rows(const at::Tensor& x) const {
  const at::Tensor runs = x.reshape({-1, width_});
  at::Tensor result = at::empty_like(runs);
  const std::int64_t step = std::max<std::int64_t>(1, kValuesAtATime / width_);
  for (std::int64_t first = 0; first < runs.size(0); first += step)
    result.slice(0, first, first + step).copy_(turned(runs.slice(0, first, first + step)));
  return result.reshape(x.sizes());
}

at::Tensor Rotation::columns(const at::Tensor& x) const {
  return x.dim() == 1 ? rows(x) : rows(x.t().contiguous()).t().contiguous();
}

}  // namespace qvlm
