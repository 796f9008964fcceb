#include "model/linear.h"

#include "base/error.h"
#include "base/parallel.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

// Columns per range when one product is split over threads: below this the start of a thread costs
// more than it saves.
constexpr std::int64_t kColumnGrain = 256;

}  // namespace

std::string_view arithmetic_name(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kFloat:
      return "float";
    case Arithmetic::kDequantized:
      return "dequantize, then float";
    case Arithmetic::kSimulated:
      return "simulated";
    case Arithmetic::kInteger:
      return "integer";
  }
  return "";
}

Arithmetic arithmetic_of(const std::optional<LinearScheme>& scheme, Execution execution) {
  if (!scheme) return Arithmetic::kFloat;
  if (!scheme->activation || execution == Execution::kFloat) return Arithmetic::kDequantized;
  // The integer kernels know symmetric codes only; an asymmetric weight is simulated.
  const bool packs =
      execution == Execution::kPacked && scheme->weight.symmetric && scheme->activation->symmetric;
  return packs ? Arithmetic::kInteger : Arithmetic::kSimulated;
}

Linear::Linear(at::Tensor weight, at::Tensor bias)
    : storage_(Dense{std::move(weight)}), bias_(std::move(bias)) {}

Linear::Linear(const QuantizedTensor& weight,
               at::Tensor bias,
               const std::optional<Scheme>& activation,
               Execution execution)
    : storage_(store(weight, activation, execution)), bias_(std::move(bias)) {}

Linear::Storage Linear::store(const QuantizedTensor& weight,
                              const std::optional<Scheme>& activation,
                              Execution execution) {
  switch (arithmetic_of(LinearScheme{weight.scheme, activation}, execution)) {
    case Arithmetic::kInteger: {
      const QuantizedWeight raw = to_quantized_weight(weight);
      const int bits = raw.scheme.bits <= 4 ? 4 : 8;
      const bool grouped = raw.scheme.granularity == Granularity::kGroup;
      return Packed{kernels::pack_weights(raw.codes, raw.scales, raw.out, raw.in, bits,
                                          grouped ? raw.scheme.group_size : 0),
                    *activation};
    }
    case Arithmetic::kSimulated:
      return Simulated{weight.dequantize(), *activation};
    default:
      return Dense{weight.dequantize(), /*dequantized=*/true};
  }
}

Arithmetic Linear::arithmetic() const {
  if (std::holds_alternative<Packed>(storage_)) return Arithmetic::kInteger;
  if (std::holds_alternative<Simulated>(storage_)) return Arithmetic::kSimulated;
  return std::get<Dense>(storage_).dequantized ? Arithmetic::kDequantized : Arithmetic::kFloat;
}

at::Tensor Linear::forward(const at::Tensor& x) const {
  if (const auto* packed = std::get_if<Packed>(&storage_)) return forward_packed(x, *packed);
  if (const auto* simulated = std::get_if<Simulated>(&storage_)) {
    return at::linear(fake_quantize_tokens(x, simulated->activation), simulated->weight, bias_);
  }
  return at::linear(x, std::get<Dense>(storage_).weight, bias_);
}

at::Tensor Linear::forward_packed(const at::Tensor& x, const Packed& packed) const {
  const kernels::PackedWeights& weight = packed.weight;
  require_shape(x, "linear", {kAnySize, weight.in});
  const at::Tensor rows = x.contiguous();
  const at::Tensor out = at::empty({rows.size(0), weight.out}, at::kFloat);
  kernels::QuantizedRows quantized;
  kernels::quantize_rows(rows.const_data_ptr<float>(), rows.size(0), weight.in,
                         packed.activation.bits, static_cast<float>(packed.activation.clip_ratio),
                         quantized);
  const float* bias = bias_.defined() ? bias_.const_data_ptr<float>() : nullptr;
  float* result = out.data_ptr<float>();
  for_ranges(weight.out, kColumnGrain, [&](std::int64_t begin, std::int64_t end) {
    kernels::matmul(weight, quantized, bias, begin, end, result, weight.out);
  });
  return out;
}

}  // namespace qvlm
