#include "quant/grid.h"

#include "base/error.h"

namespace qvlm {
namespace {

// A scale that its storage type rounds to zero, or that was zero, would divide by zero: 1 is as
// good for all-zero values, and for denormal ranges it maps everything to code 0.
at::Tensor safe_scale(const at::Tensor& scale, at::ScalarType storage) {
  const at::Tensor stored = scale.to(storage).to(at::kFloat);
  return at::where(stored > 0, stored, at::ones_like(stored));
}

}  // namespace

Grid make_grid(const Range& range, const Scheme& scheme, at::ScalarType storage) {
  const double steps = static_cast<double>(highest_code(scheme) - lowest_code(scheme));
  if (scheme.symmetric) {
    const at::Tensor absmax = at::maximum(range.low.abs(), range.high.abs());
    return {safe_scale(absmax / (steps / 2), storage), {}};
  }
  const at::Tensor low = range.low.clamp_max(0), high = range.high.clamp_min(0);
  const at::Tensor scale = safe_scale((high - low) / steps, storage);
  const at::Tensor zero_point = (lowest_code(scheme) - (low / scale).round())
                                    .clamp(lowest_code(scheme), highest_code(scheme));
  return {scale, zero_point};
}

at::Tensor quantize(const at::Tensor& values, const Grid& grid, const Scheme& scheme) {
  at::Tensor steps = values / grid.scale;
  if (grid.zero_point.defined()) steps = steps + grid.zero_point;
  return steps.round_().clamp_(lowest_code(scheme), highest_code(scheme));
}

at::Tensor dequantize(const at::Tensor& codes, const Grid& grid) {
  return grid.zero_point.defined() ? (codes - grid.zero_point) * grid.scale : codes * grid.scale;
}

at::Tensor fake_quantize_tokens(const at::Tensor& activations, const Scheme& scheme) {
  const Grid grid = make_grid(observe_tokens(activations, scheme), scheme);
  return dequantize(quantize(activations, grid, scheme), grid);
}

}  // namespace qvlm
