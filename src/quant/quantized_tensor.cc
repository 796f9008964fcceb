#include "quant/quantized_tensor.h"

#include "tensor/shape.h"

namespace qvlm {
namespace {

// Values [out, in] with the last dimension cut in groups: [out, groups, in / groups].
at::Tensor grouped(const at::Tensor& values, std::int64_t groups) {
  return values.reshape({values.size(0), groups, values.size(1) / groups});
}

// The grid of a [out, groups, in / groups] view.
Grid grid_of(const QuantizedTensor& tensor) {
  const at::Tensor zero =
      tensor.zero_point.defined() ? tensor.zero_point.to(at::kFloat).unsqueeze(-1) : at::Tensor();
  return {tensor.scale.unsqueeze(-1), zero};
}

template <typename T>
std::vector<T> to_vector(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return std::vector<T>(flat.const_data_ptr<T>(), flat.const_data_ptr<T>() + flat.numel());
}

template <typename T>
at::Tensor from_vector(const std::vector<T>& values, c10::IntArrayRef shape) {
  return at::tensor(values, c10::CppTypeToScalarType<T>::value).reshape(shape);
}

}  // namespace

at::Tensor QuantizedTensor::dequantize() const {
  const at::Tensor reals =
      qvlm::dequantize(grouped(codes.to(at::kFloat), scale.size(1)), grid_of(*this));
  return reals.reshape(codes.sizes());
}

QuantizedTensor quantize_weight(const at::Tensor& weight,
                                const Scheme& scheme,
                                at::ScalarType storage) {
  require_shape(weight, "quantize_weight", {kAnySize, kAnySize});
  Grid grid = make_grid(observe_weight(weight, scheme), scheme, storage);
  const std::int64_t out = weight.size(0);
  QuantizedTensor result{scheme, {}, grid.scale.expand({out, -1}).contiguous(), {}};
  if (grid.zero_point.defined())
    result.zero_point = grid.zero_point.expand({out, -1}).to(at::kChar).contiguous();
  const at::Tensor codes = quantize(grouped(weight, result.scale.size(1)), grid_of(result), scheme);
  result.codes = codes.reshape(weight.sizes()).to(at::kChar);
  return result;
}

QuantizedTensor to_quantized_tensor(const QuantizedWeight& weight) {
  QuantizedTensor tensor{weight.scheme,
                         from_vector(weight.codes, {weight.out, weight.in}),
                         from_vector(weight.scales, {weight.out, weight.groups}),
                         {}};
  if (!weight.zero_points.empty())
    tensor.zero_point = from_vector(weight.zero_points, {weight.out, weight.groups});
  return tensor;
}

QuantizedWeight to_quantized_weight(const QuantizedTensor& tensor) {
  QuantizedWeight weight;
  weight.scheme = tensor.scheme;
  weight.out = tensor.codes.size(0);
  weight.in = tensor.codes.size(1);
  weight.groups = tensor.scale.size(1);
  weight.codes = to_vector<std::int8_t>(tensor.codes);
  weight.scales = to_vector<float>(tensor.scale);
  if (tensor.zero_point.defined()) weight.zero_points = to_vector<std::int8_t>(tensor.zero_point);
  return weight;
}

}  // namespace qvlm
