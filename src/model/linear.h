// Linear: the seam of the whole model. Everything that differs between float, simulated and packed
// execution is the storage of a linear's weight; the graph above it is written once.
#pragma once

#include <qvlm/kernels.h>
#include <qvlm/session.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "io/hf_config.h"
#include "model/linear_input.h"
#include "quant/input_rounding.h"
#include "quant/quantized_tensor.h"
#include "tensor/tensor.h"

namespace qvlm {

// What the matrix product of a linear really does; reports say it as it is.
enum class Arithmetic {
  kFloat,        // the weight is float in the checkpoint
  kBf16,         // bf16 product of inputs and weight rounded to it, wherever that came from
  kDequantized,  // float product on a dequantized weight
  kSimulated,    // the same, inputs rounded first: to their codes, or to bf16 where they have none
  kUnpacked,     // codes become bf16 in registers, bf16 product; the weight stays low-bit in memory
  kInteger,      // integer product of codes
};
std::string_view arithmetic_name(Arithmetic arithmetic);

// The arithmetic that a linear of this scheme has under an execution.
Arithmetic arithmetic_of(const std::optional<LinearScheme>& scheme, Execution execution);

// What happens to a product on its way out: y = function(product + bias), then y + operand or
// y * operand. Packed linears do it while the product is in registers.
struct Finish {
  std::optional<Activation> function;
  kernels::Combine combine = kernels::Combine::kNone;
  at::Tensor operand;  // [tokens, out]; with combine
};
Finish add_to(at::Tensor operand);
Finish multiply_by(at::Tensor operand);

class Linear {
 public:
  // weight: [out, in] float32, bfloat16 or float16, kept in that type and multiplied as float32,
  // or in bfloat16 where the execution says so; bias: [out] float32 or undefined.
  Linear(at::Tensor weight, at::Tensor bias, Execution execution = Execution::kPacked);
  // scheme: of the weight, which it describes, and of the input.
  Linear(const QuantizedWeight& weight,
         at::Tensor bias,
         const LinearScheme& scheme,
         Execution execution);
  Linear(kernels::PackedWeights weight, at::Tensor bias, const LinearScheme& scheme);
  // weight: [out, in] float32, multiplied with the rounded input: a quantized linear simulated.
  // Differentiable where the rounding is.
  Linear(at::Tensor weight, at::Tensor bias, InputRounding rounding);

  // [tokens, in] -> [tokens, out], float32.
  at::Tensor forward(const LinearInput& x, const Finish& finish = {}) const;

  Arithmetic arithmetic() const;
  // The weight in the kernels' layout; null where the product is not theirs.
  const kernels::PackedWeights* packed() const;
  const at::Tensor& bias() const { return bias_; }  // undefined: none
  // The weight [out, in] in its stored type, where it is float. Throws kInternal where it is codes.
  const at::Tensor& dense_weight() const;

 private:
  struct Dense {
    at::Tensor weight;  // float32, or 16 bits a value
    Arithmetic arithmetic = Arithmetic::kFloat;
  };
  struct Simulated {
    at::Tensor weight;  // dequantized
    InputRounding rounding;
  };
  struct Packed {
    Packed(kernels::PackedWeights weight, const LinearScheme& scheme);
    kernels::PackedWeights weight;
    std::optional<Scheme> activation;
    std::shared_ptr<const kernels::Hadamard> hadamard;  // of the input; null: none
  };
  using Storage = std::variant<Dense, Simulated, Packed>;

  static Storage store(const QuantizedWeight& weight,
                       const LinearScheme& scheme,
                       Execution execution);
  at::Tensor forward_dense(const at::Tensor& x, const Dense& dense) const;
  at::Tensor forward_half(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor forward_packed(const LinearInput& x, const Packed& packed, const Finish& finish) const;

  Storage storage_;
  at::Tensor bias_;
};

// A linear of a layer by its name inside the layer: "self_attn.q_proj".
struct NamedLinear {
  std::string name;
  Linear* linear = nullptr;
  int input = 0;  // linears of a layer with the same number share their input
};

}  // namespace qvlm
