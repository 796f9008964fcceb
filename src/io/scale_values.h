// Scales as they lie in files: BF16, F16 or F32 numbers. Reading gives back the very float that was
// used, so the quantizer rounds its scales to the file's dtype first and writing refuses a value
// that would change.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "io/safetensors.h"

namespace qvlm {

// Throws kUnsupported for a dtype that is not BF16, F16 or F32.
std::vector<float> decode_scales(const TensorView& tensor);
// Throws kInternal if a value is not exactly a number of that dtype.
std::vector<std::byte> encode_scales(std::span<const float> scales, DType dtype);

}  // namespace qvlm
