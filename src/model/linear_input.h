// The input of one or more linears, in the forms that their products take. Linears that share an
// input (q, k and v; gate and up) share its codes too: each form is made once.
#pragma once

#include <qvlm/kernels.h>
#include <qvlm/scheme.h>

#include <optional>

#include "quant/input_rounding.h"
#include "tensor/tensor.h"

namespace qvlm {

// Not safe for use by two threads at once.
class LinearInput {
 public:
  // x: [tokens, in] float32.
  LinearInput(const at::Tensor& x);  // NOLINT(google-explicit-constructor): a tensor is an input

  const at::Tensor& values() const { return values_; }  // [tokens, in], contiguous

  // The codes of a dynamic per-token scheme, with sums over the groups of the weight. hadamard:
  // turns the values first; null: nothing does. It must live as long as the input.
  const kernels::QuantizedRows& codes(const Scheme& activation,
                                      std::int64_t group_size,
                                      const kernels::Hadamard* hadamard = nullptr) const;
  // What a simulated quantizer makes of the values: [tokens, in].
  const at::Tensor& rounded(const InputRounding& rounding) const;
  // Rounded to bfloat16, with sums over the groups of the weight.
  const kernels::Bf16Rows& bf16(std::int64_t group_size,
                                const kernels::Hadamard* hadamard = nullptr) const;

 private:
  at::Tensor values_;
  mutable std::optional<Scheme> scheme_;                  // of codes_
  mutable const kernels::Hadamard* turned_by_ = nullptr;  // codes_
  mutable kernels::QuantizedRows codes_;
  mutable std::optional<kernels::Bf16Rows> bf16_;
  mutable const kernels::Hadamard* bf16_turned_by_ = nullptr;
  mutable InputRounding rounding_;  // of rounded_
  mutable at::Tensor rounded_;
};

}  // namespace qvlm
