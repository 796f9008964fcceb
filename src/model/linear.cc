#include "model/linear.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/half_matmul.h"
#include "model/functional.h"
#include "model/matmul_clock.h"
#include "quant/hadamard_rows.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

// Columns of a product per range when it is split over threads: a few ranges a thread, so that one
// that is held up does not hold up all, but each with enough products and enough bytes of weights
// that starting it is cheap; whole panels of 64.
std::int64_t column_grain(const kernels::PackedWeights& weight, std::int64_t rows) {
  constexpr std::int64_t kProducts = 2'000'000, kBytes = 100'000;
  const std::int64_t for_products = kProducts / (rows * weight.in);
  const std::int64_t for_bytes = kBytes * 8 / (weight.bits * weight.in);
  const std::int64_t for_balance = weight.out / (4 * thread_count());
  const std::int64_t columns = std::max({std::min(for_products, for_bytes), for_balance});
  return std::max<std::int64_t>(1, (columns + 63) / 64) * 64;
}

kernels::Function kernel_function(const std::optional<Activation>& function) {
  if (!function) return kernels::Function::kNone;
  switch (*function) {
    case Activation::kGelu:
      return kernels::Function::kGelu;
    case Activation::kGeluTanh:
      return kernels::Function::kGeluTanh;
    case Activation::kQuickGelu:
      return kernels::Function::kQuickGelu;
    case Activation::kSilu:
      return kernels::Function::kSilu;
  }
  fail(ErrorKind::kInternal, "linear: unknown activation function");
}

// What multiplies inputs as they come: a turned weight is turned back.
at::Tensor dequantize_linear(const QuantizedWeight& weight, const LinearScheme& scheme) {
  const at::Tensor reals = to_quantized_tensor(weight).dequantize();
  return scheme.hadamard_input ? undo_hadamard_rows(reals, hadamard_of(scheme, weight.in)) : reals;
}

// The same on a tensor, for products that LibTorch computes.
at::Tensor finish_tensor(at::Tensor product, const Finish& finish) {
  if (finish.function) product = activate(product, *finish.function);
  if (finish.combine == kernels::Combine::kAdd) return product.add_(finish.operand);
  if (finish.combine == kernels::Combine::kMultiply) return product.mul_(finish.operand);
  return product;
}

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
    case Arithmetic::kUnpacked:
      return "unpack to bf16, then bf16";
    case Arithmetic::kInteger:
      return "integer";
  }
  return "";
}

Arithmetic arithmetic_of(const std::optional<LinearScheme>& scheme, Execution execution) {
  if (execution == Execution::kBf16) return Arithmetic::kBf16;
  if (!scheme) return Arithmetic::kFloat;
  if (execution == Execution::kFloat) return Arithmetic::kDequantized;
  if (execution == Execution::kSimulated) return Arithmetic::kSimulated;
  if (!scheme->activation) return Arithmetic::kUnpacked;
  // The integer kernels know symmetric activations only, and compute their scales while running.
  const bool integer = scheme->activation->symmetric && scheme->activation->dynamic;
  return integer ? Arithmetic::kInteger : Arithmetic::kSimulated;
}

Finish add_to(at::Tensor operand) {
  return {std::nullopt, kernels::Combine::kAdd, std::move(operand)};
}

Finish multiply_by(at::Tensor operand) {
  return {std::nullopt, kernels::Combine::kMultiply, std::move(operand)};
}

Linear::Linear(at::Tensor weight, at::Tensor bias, Execution execution)
    : storage_(execution == Execution::kBf16 ? Dense{weight.to(at::kBFloat16), Arithmetic::kBf16}
                                             : Dense{std::move(weight), Arithmetic::kFloat}),
      bias_(std::move(bias)) {}

Linear::Linear(const QuantizedWeight& weight,
               at::Tensor bias,
               const LinearScheme& scheme,
               Execution execution)
    : storage_(store(weight, scheme, execution)), bias_(std::move(bias)) {}

Linear::Linear(kernels::PackedWeights weight, at::Tensor bias, const LinearScheme& scheme)
    : storage_(Packed(std::move(weight), scheme)), bias_(std::move(bias)) {}

Linear::Packed::Packed(kernels::PackedWeights packed, const LinearScheme& scheme)
    : weight(std::move(packed)), activation(scheme.activation) {
  if (scheme.hadamard_input)
    hadamard = std::make_shared<const kernels::Hadamard>(hadamard_of(scheme, weight.in));
}

Linear::Linear(at::Tensor weight, at::Tensor bias, InputRounding rounding)
    : storage_(Simulated{std::move(weight), std::move(rounding)}), bias_(std::move(bias)) {}

const at::Tensor& Linear::dense_weight() const {
  const auto* dense = std::get_if<Dense>(&storage_);
  require(dense != nullptr, ErrorKind::kInternal, "linear: its weight is not float");
  return dense->weight;
}

const kernels::PackedWeights* Linear::packed() const {
  const auto* packed = std::get_if<Packed>(&storage_);
  return packed == nullptr ? nullptr : &packed->weight;
}

Linear::Storage Linear::store(const QuantizedWeight& weight,
                              const LinearScheme& scheme,
                              Execution execution) {
  switch (arithmetic_of(scheme, execution)) {
    case Arithmetic::kInteger:
    case Arithmetic::kUnpacked: {
      const bool grouped = weight.scheme.granularity == Granularity::kGroup;
      return Packed(kernels::pack_weights({weight.out, weight.in, weight.scheme.bits,
                                           grouped ? weight.scheme.group_size : 0, weight.codes,
                                           weight.scales, weight.zero_points}),
                    scheme);
    }
    case Arithmetic::kSimulated:
      return Simulated{to_quantized_tensor(weight).dequantize(), make_rounding(scheme, weight.in)};
    case Arithmetic::kBf16:
      return Dense{dequantize_linear(weight, scheme).to(at::kBFloat16), Arithmetic::kBf16};
    default:
      return Dense{dequantize_linear(weight, scheme), Arithmetic::kDequantized};
  }
}

Arithmetic Linear::arithmetic() const {
  if (const auto* packed = std::get_if<Packed>(&storage_)) {
    return packed->activation ? Arithmetic::kInteger : Arithmetic::kUnpacked;
  }
  if (std::holds_alternative<Simulated>(storage_)) return Arithmetic::kSimulated;
  return std::get<Dense>(storage_).arithmetic;
}

at::Tensor Linear::forward(const LinearInput& x, const Finish& finish) const {
  const MatmulTimer timer;
  if (const auto* packed = std::get_if<Packed>(&storage_)) {
    return forward_packed(x, *packed, finish);
  }
  if (const auto* simulated = std::get_if<Simulated>(&storage_)) {
    const at::Tensor& rounded = x.rounded(simulated->rounding);
    return finish_tensor(at::linear(rounded, simulated->weight, bias_), finish);
  }
  return finish_tensor(forward_dense(x.values(), std::get<Dense>(storage_)), finish);
}

at::Tensor Linear::forward_dense(const at::Tensor& x, const Dense& dense) const {
  if (dense.weight.scalar_type() == at::kFloat) return at::linear(x, dense.weight, bias_);
  if (dense.arithmetic != Arithmetic::kBf16) return forward_half(x, dense.weight);
  at::Tensor product = at::linear(x.to(at::kBFloat16), dense.weight).to(at::kFloat);
  return bias_.defined() ? product.add_(bias_) : product;
}

// The weight is widened on the way: in registers for a few rows, which wait for memory anyway, else
// a block of outputs at a time, for LibTorch to multiply while it is in the cache.
at::Tensor Linear::forward_half(const at::Tensor& x, const at::Tensor& weight) const {
  constexpr std::int64_t kFewRows = 4, kBlockBytes = 1 << 20;
  const std::int64_t rows = x.size(0), out = weight.size(0), in = weight.size(1);
  require_shape(x, "linear", {kAnySize, in});
  at::Tensor result = at::empty({rows, out}, at::kFloat);
  if (rows <= kFewRows) {
    const bool bf16 = weight.scalar_type() == at::kBFloat16;
    const kernels::HalfMatmul product{
        static_cast<const std::uint16_t*>(weight.const_data_ptr()),
        bf16 ? kernels::HalfType::kBfloat16 : kernels::HalfType::kFloat16,
        in,
        x.const_data_ptr<float>(),
        rows,
        bias_.defined() ? bias_.const_data_ptr<float>() : nullptr,
        result.data_ptr<float>(),
        out};
    for_ranges(out, std::max<std::int64_t>(8, (1 << 17) / in),
               [&](std::int64_t begin, std::int64_t end) { kernels::matmul(product, begin, end); });
    return result;
  }
  const std::int64_t block = std::max<std::int64_t>(64, kBlockBytes / (4 * in));
  for (std::int64_t begin = 0; begin < out; begin += block) {
    const std::int64_t end = std::min(out, begin + block);
    const at::Tensor bias = bias_.defined() ? bias_.slice(0, begin, end) : at::Tensor();
    result.slice(1, begin, end)
        .copy_(at::linear(x, weight.slice(0, begin, end).to(at::kFloat), bias));
  }
  return result;
}

at::Tensor Linear::forward_packed(const LinearInput& x,
                                  const Packed& packed,
                                  const Finish& finish) const {
  const kernels::PackedWeights& weight = packed.weight;
  require_shape(x.values(), "linear", {kAnySize, weight.in});
  const std::int64_t rows = x.values().size(0);
  const at::Tensor out = at::empty({rows, weight.out}, at::kFloat);
  kernels::Output output;
  output.values = out.data_ptr<float>();
  output.stride = weight.out;
  output.bias = bias_.defined() ? bias_.const_data_ptr<float>() : nullptr;
  output.function = kernel_function(finish.function);
  output.combine = finish.combine;
  at::Tensor operand;
  if (finish.operand.defined()) {
    require_shape(finish.operand, "operand of a linear", {rows, weight.out});
    operand = finish.operand.contiguous();
    output.operand = operand.const_data_ptr<float>();
    output.operand_stride = weight.out;
  }
  const auto multiply = [&](const auto& activations) {
    const std::int64_t grain = column_grain(weight, std::max<std::int64_t>(1, rows));
    for_ranges(weight.out, grain, [&](std::int64_t begin, std::int64_t end) {
      kernels::matmul(weight, activations, begin, end, output);
    });
  };
  if (packed.activation) {
    multiply(x.codes(*packed.activation, weight.group_size, packed.hadamard.get()));
  } else {
    multiply(x.bf16(weight.group_size, packed.hadamard.get()));
  }
  return out;
}

}  // namespace qvlm
