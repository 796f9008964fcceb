// Between tensors in files (io/safetensors.h) and LibTorch tensors.
#pragma once

#include <span>

#include "io/safetensors.h"
#include "tensor/tensor.h"

namespace qvlm {

// A tensor that reads the file's memory directly: valid as long as the view's file, not to be
// written.
at::Tensor wrap(const TensorView& view);

// A float32 copy of a floating-point view. Throws kCorrupt if it is not floating point.
at::Tensor to_float32(const TensorView& view);

// The bytes of a contiguous CPU tensor.
std::span<const std::byte> bytes_of(const at::Tensor& tensor);

DType dtype_of(const at::Tensor& tensor);
at::ScalarType scalar_type(DType dtype);

}  // namespace qvlm
