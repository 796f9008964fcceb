#include "quant/observer.h"

#include "base/error.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

Range last_dimension_range(const at::Tensor& values, double clip_ratio) {
  auto [low, high] = at::aminmax(values, /*dim=*/-1, /*keepdim=*/true);
  if (clip_ratio == 1.0) return {low, high};
  return {low * clip_ratio, high * clip_ratio};
}

}  // namespace

Range observe_weight(const at::Tensor& weight, const Scheme& scheme) {
  require_shape(weight, "observe_weight", {kAnySize, kAnySize});
  require(weight.isfinite().all().item<bool>(), ErrorKind::kCorrupt,
          "the weight holds NaN or infinity");
  const std::int64_t out = weight.size(0), in = weight.size(1);
  if (scheme.granularity == Granularity::kTensor)
    return last_dimension_range(weight.reshape({1, -1}), scheme.clip_ratio);
  if (scheme.granularity == Granularity::kChannel)
    return last_dimension_range(weight, scheme.clip_ratio);
  require(in % scheme.group_size == 0, ErrorKind::kInvalidArgument, "group_size ",
          scheme.group_size, " does not divide the ", in, " inputs");
  const Range range =
      last_dimension_range(weight.reshape({out, -1, scheme.group_size}), scheme.clip_ratio);
  return {range.low.squeeze(-1), range.high.squeeze(-1)};
}

Range observe_tokens(const at::Tensor& activations, const Scheme& scheme) {
  return last_dimension_range(activations, scheme.clip_ratio);
}

}  // namespace qvlm
