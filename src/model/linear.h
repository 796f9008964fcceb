// Linear: the seam of the whole model. Everything that differs between float, simulated and packed
// execution is the storage of a linear's weight; the graph above it is written once.
#pragma once

#include <qvlm/kernels.h>
#include <qvlm/session.h>

#include <optional>
#include <string_view>
#include <variant>

#include "quant/quantized_tensor.h"
#include "tensor/tensor.h"

namespace qvlm {

// What the matrix product of a linear really does; reports say it as it is.
enum class Arithmetic {
  kFloat,        // the weight is float in the checkpoint
  kBf16,         // bf16 product of inputs and weight rounded to it, wherever that came from
  kDequantized,  // float product on a dequantized weight
  kSimulated,    // the same, activations rounded to their codes first
  kInteger,      // integer product of codes
};
std::string_view arithmetic_name(Arithmetic arithmetic);

// The arithmetic that a linear of this scheme has under an execution.
Arithmetic arithmetic_of(const std::optional<LinearScheme>& scheme, Execution execution);

class Linear {
 public:
  // weight: [out, in] float32, or bfloat16 to multiply in; bias: [out] float32 or undefined.
  Linear(at::Tensor weight, at::Tensor bias);
  Linear(const QuantizedTensor& weight,
         at::Tensor bias,
         const std::optional<Scheme>& activation,
         Execution execution);

  // [tokens, in] -> [tokens, out], float32.
  at::Tensor forward(const at::Tensor& x) const;

  Arithmetic arithmetic() const;

 private:
  struct Dense {
    at::Tensor weight;
    bool dequantized = false;
  };
  struct Simulated {
    at::Tensor weight;  // dequantized
    Scheme activation;
  };
  struct Packed {
    kernels::PackedWeights weight;
    Scheme activation;
  };
  using Storage = std::variant<Dense, Simulated, Packed>;

  static Storage store(const QuantizedTensor& weight,
                       const std::optional<Scheme>& activation,
                       Execution execution);
  at::Tensor forward_packed(const at::Tensor& x, const Packed& packed) const;

  Storage storage_;
  at::Tensor bias_;
};

}  // namespace qvlm
