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

at::Tensor places_beside(std::int64_t width, const std::vector<std::int64_t>& apart) {
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < width; ++i) {
    if (!std::ranges::binary_search(apart, i)) places.push_back(i);
  }
  return at::tensor(places, at::kLong);
}

}  // namespace

// A number of places that no matrix has is mixed by two, of the first and of the last ones.
Rotation::Rotation(std::int64_t width, std::uint64_t seed, const std::vector<std::int64_t>& apart)
    : width_(width) {
  Random random(seed);
  if (apart.empty()) {
    turns_.push_back({0, random_signs(width, random), kernels::make_hadamard(width)});
    return;
  }
  mixed_ = places_beside(width, apart);
  const std::int64_t mixed = mixed_.size(0);
  if (mixed == 0) return;
  const std::int64_t whole = largest_whole(mixed);
  turns_.push_back({0, random_signs(whole, random), kernels::make_hadamard(whole)});
  if (whole == mixed) return;
  turns_.push_back({mixed - whole, random_signs(whole, random), kernels::make_hadamard(whole)});
}

at::Tensor Rotation::rows(const at::Tensor& x) const {
  const at::Tensor runs = x.reshape({-1, width_});
  at::Tensor values = mixed_.defined() ? runs.index_select(1, mixed_) : runs;
  for (const Turn& turn : turns_) {
    const std::int64_t last = turn.first + turn.signs.size(0);
    const at::Tensor turned =
        hadamard_rows(values.slice(1, turn.first, last) * turn.signs, turn.hadamard);
    values = at::cat({values.slice(1, 0, turn.first), turned, values.slice(1, last)}, 1);
  }
  if (!mixed_.defined()) return values.reshape(x.sizes());
  return runs.index_copy(1, mixed_, values).reshape(x.sizes());
}

at::Tensor Rotation::columns(const at::Tensor& x) const {
  return x.dim() == 1 ? rows(x) : rows(x.t().contiguous()).t().contiguous();
}

}  // namespace qvlm
