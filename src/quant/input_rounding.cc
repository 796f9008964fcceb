#include "quant/input_rounding.h"

#include "base/error.h"

namespace qvlm {
InputRounding make_rounding(std::function<at::Tensor(const at::Tensor&)> function) {
  return std::make_shared<const std::function<at::Tensor(const at::Tensor&)>>(std::move(function));
}

InputRounding make_rounding(const LinearScheme& scheme) {
  if (!scheme.activation) {
    return make_rounding([](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); });
  }
  const Scheme activation = *scheme.activation;
  if (activation.dynamic) {
    return make_rounding(
        [activation](const at::Tensor& x) { return fake_quantize_tokens(x, activation); });
  }
  require(!scheme.input_scale.empty(), ErrorKind::kInvalidArgument,
          "a static activation scheme has no measured scale");
  const Grid grid{at::tensor(scheme.input_scale), {}};
  return make_rounding([activation, grid](const at::Tensor& x) {
    return dequantize(quantize(x, grid, activation), grid);
  });
}

}  // namespace qvlm
