#include "model/linear.h"

#include "base/error.h"
#include "base/parallel.h"
#include "model/matmul_clock.h"
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
    case Arithmetic::kBf16:
      return "bf16";
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
  if (execution == Execution::kBf16) return Arithmetic::kBf16;
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
      return Packed{kernels::pack_weights({raw.out, raw.in, bits,
                                           grouped ? raw.scheme.group_size : 0, raw.codes,
                                           raw.scales, raw.zero_points}),
                    *activation};
    }
    case Arithmetic::kSimulated:
      return Simulated{weight.dequantize(), *activation};
    case Arithmetic::kBf16:
      return Dense{weight.dequantize().to(at::kBFloat16)};
    default:
      return Dense{weight.dequantize(), /*dequantized=*/true};
  }
}

Arithmetic Linear::arithmetic() const {
  if (std::holds_alternative<Packed>(storage_)) return Arithmetic::kInteger;
  if (std::holds_alternative<Simulated>(storage_)) return Arithmetic::kSimulated;
  const Dense& dense = std::get<Dense>(storage_);
  if (dense.weight.scalar_type() == at::kBFloat16) return Arithmetic::kBf16;
  return dense.dequantized ? Arithmetic::kDequantized : Arithmetic::kFloat;
}

at::Tensor Linear::forward(const at::Tensor& x) const {
  const MatmulTimer timer;
  if (const auto* packed = std::get_if<Packed>(&storage_)) return forward_packed(x, *packed);
  if (const auto* simulated = std::get_if<Simulated>(&storage_)) {
    return at::linear(fake_quantize_tokens(x, simulated->activation), simulated->weight, bias_);
  }
  const at::Tensor& weight = std::get<Dense>(storage_).weight;
  if (weight.scalar_type() != at::kBFloat16) return at::linear(x, weight, bias_);
  at::Tensor product = at::linear(x.to(at::kBFloat16), weight).to(at::kFloat);
  return bias_.defined() ? product.add_(bias_) : product;
}

at::Tensor Linear::forward_packed(const at::Tensor& x, const Packed& packed) const {
  const kernels::PackedWeights& weight = packed.weight;
  require_shape(x, "linear", {kAnySize, weight.in});
  const at::Tensor rows = x.contiguous();
  const at::Tensor out = at::empty({rows.size(0), weight.out}, at::kFloat);
  kernels::QuantizedRows quantized;
  quantized.resize(rows.size(0), weight.in, weight.group_size);
  const kernels::ActivationCodes format{packed.activation.bits,
                                        static_cast<float>(packed.activation.clip_ratio)};
  kernels::quantize_rows(rows.const_data_ptr<float>(), format, 0, rows.size(0), quantized);
  kernels::Output output;
  output.values = out.data_ptr<float>();
  output.stride = weight.out;
  output.bias = bias_.defined() ? bias_.const_data_ptr<float>() : nullptr;
  for_ranges(weight.out, kColumnGrain, [&](std::int64_t begin, std::int64_t end) {
    kernels::matmul(weight, quantized, begin, end, output);
  });
  return out;
}

}  // namespace qvlm
