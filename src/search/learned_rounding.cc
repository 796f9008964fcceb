#include "search/learned_rounding.h"

#include <utility>

#include "quant/grid.h"

namespace qvlm {
namespace {

// `rounded` with the gradient of `exact`. The difference that carries the gradient is zero, so the
// value stays exactly what it was.
at::Tensor straight_through(const at::Tensor& exact, const at::Tensor& rounded) {
  if (!exact.requires_grad()) return rounded;
  return rounded.detach() + (exact - exact.detach());
}

// The range of an unclipped scheme, clipped.
Range clip_range(const Range& range, const at::Tensor& clip) {
  return {range.low * clip, range.high * clip};
}

Scheme without_clip(Scheme scheme) {
  scheme.clip_ratio = 1.0;
  return scheme;
}

// dequantize(quantize(values)), the operations of quant/grid one by one.
at::Tensor round_to_grid(const at::Tensor& values,
                         const Grid& grid,
                         const Scheme& scheme,
                         CodeRounding rounding) {
  at::Tensor steps = values / grid.scale;
  if (grid.zero_point.defined()) steps = steps + grid.zero_point;
  if (rounding == CodeRounding::kNearest) steps = straight_through(steps, steps.round());
  return dequantize(steps.clamp(lowest_code(scheme), highest_code(scheme)), grid);
}

}  // namespace

at::Tensor round_weight(const at::Tensor& weight,
                        const at::Tensor& clip,
                        const Scheme& scheme,
                        at::ScalarType storage,
                        CodeRounding rounding) {
  const Range range = clip_range(observe_weight(weight, without_clip(scheme)), clip);
  Grid grid = make_grid(range, scheme);
  if (rounding == CodeRounding::kNearest) {
    const Grid stored = make_grid(range, scheme, storage);
    grid = {straight_through(grid.scale, stored.scale), stored.zero_point};
  }
  const std::int64_t groups = grid.scale.size(1);
  grid.scale = grid.scale.unsqueeze(-1);  // [out or 1, groups, 1]
  if (grid.zero_point.defined()) grid.zero_point = grid.zero_point.unsqueeze(-1);
  const at::Tensor values = weight.reshape({weight.size(0), groups, -1});
  return round_to_grid(values, grid, scheme, rounding).reshape(weight.sizes());
}

at::Tensor round_tokens(const at::Tensor& activations,
                        const at::Tensor& clip,
                        const Scheme& scheme,
                        CodeRounding rounding) {
  const Range range = clip_range(observe_tokens(activations, without_clip(scheme)), clip);
  return round_to_grid(activations, make_grid(range, scheme), scheme, rounding);
}

InputRounding make_learned_rounding(const Scheme& scheme, at::Tensor clip, CodeRounding rounding) {
  return make_rounding([scheme, clip = std::move(clip), rounding](const at::Tensor& x) {
    return round_tokens(x, clip, scheme, rounding);
  });
}

InputRounding make_straight_bf16(CodeRounding rounding) {
  return make_rounding([rounding](const at::Tensor& x) {
    if (rounding == CodeRounding::kNone) return x;
    return straight_through(x, x.to(at::kBFloat16).to(at::kFloat));
  });
}

}  // namespace qvlm
