// A quantized weight as tensors: codes and their grid. Files hold the same as io's QuantizedWeight.
#pragma once

#include "io/quantized_checkpoint.h"
#include "quant/grid.h"
#include "tensor/tensor.h"

namespace qvlm {

struct QuantizedTensor {
  Scheme scheme;
  at::Tensor codes;       // [out, in] int8
  at::Tensor scale;       // [out, groups] float32
  at::Tensor zero_point;  // [out, groups] int8; undefined when symmetric

  at::Tensor dequantize() const;  // [out, in] float32
};

// Rounds a weight [out, in] to the nearest codes of the grid its own range gives. `storage`: see
// make_grid.
QuantizedTensor quantize_weight(const at::Tensor& weight,
                                const Scheme& scheme,
                                at::ScalarType storage);

QuantizedTensor to_quantized_tensor(const QuantizedWeight& weight);
QuantizedWeight to_quantized_weight(const QuantizedTensor& tensor);

}  // namespace qvlm
