#include "model/functional.h"

#include "base/error.h"

namespace qvlm {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return at::rms_norm(x, {x.size(-1)}, weight, eps);
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kQuickGelu:
      return x * at::sigmoid(x * 1.702);
    case Activation::kSilu:
      return at::silu(x);
  }
  fail(ErrorKind::kInternal, "activate: unknown activation");
}

at::Tensor attention(const at::Tensor& query,
                     const at::Tensor& key,
                     const at::Tensor& value,
                     bool causal) {
  const std::int64_t tokens = query.size(1), positions = key.size(1);
  // LibTorch's is_causal aligns the mask to the first position; with cached positions before the
  // tokens it has to be aligned to the last, so a mask is given. One token sees everything and
  // needs none.
  std::optional<at::Tensor> mask;
  const bool aligned = tokens == positions;
  if (causal && !aligned && tokens > 1) {
    mask = at::ones({tokens, positions}, at::kBool).tril(positions - tokens);
  }
  const bool grouped = query.size(0) != key.size(0);
  const at::Tensor mixed = at::scaled_dot_product_attention(
      query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), mask, /*dropout_p=*/0.0,
      /*is_causal=*/causal && aligned, /*scale=*/std::nullopt, /*enable_gqa=*/grouped);
  return mixed.squeeze(0).transpose(0, 1).reshape({tokens, -1});
}

}  // namespace qvlm
