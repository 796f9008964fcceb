#include "quant/input_rounding.h"

#include "base/error.h"
#include "quant/hadamard_rows.h"

namespace qvlm {
namespace {

using RoundingFunction = std::function<at::Tensor(const at::Tensor&)>;

RoundingFunction rounding_of(const LinearScheme& scheme) {
  if (!scheme.activation)
    return [](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); };
  const Scheme activation = *scheme.activation;
  if (activation.dynamic)
    return [activation](const at::Tensor& x) { return fake_quantize_tokens(x, activation); };
  require(!scheme.input_scale.empty(), ErrorKind::kInvalidArgument,
          "a static activation scheme has no measured scale");
  const Grid grid{at::tensor(scheme.input_scale), {}};
  return [activation, grid](const at::Tensor& x) {
    return dequantize(quantize(x, grid, activation), grid);
  };
}

}  // namespace

InputRounding make_rounding(std::function<at::Tensor(const at::Tensor&)> function) {
  return std::make_shared<const std::function<at::Tensor(const at::Tensor&)>>(std::move(function));
}

InputRounding make_rounding(const LinearScheme& scheme, std::int64_t in) {
  RoundingFunction round = rounding_of(scheme);
  if (!scheme.hadamard_input) return make_rounding(std::move(round));
  return make_rounding([round = std::move(round), hadamard = hadamard_of(scheme, in)](
                           const at::Tensor& x) { return round(hadamard_rows(x, hadamard)); });
}

bool rounds_input_alike(const LinearScheme& a, const LinearScheme& b) {
  return a.activation == b.activation && a.input_scale == b.input_scale &&
         a.hadamard_input == b.hadamard_input;
}

}  // namespace qvlm
