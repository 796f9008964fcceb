// Whether all numbers of a tensor in a file are finite, told from their bits.
#pragma once

#include <cstddef>
#include <span>

#include "io/safetensors.h"

namespace qvlm {

// False if a value is NaN or infinite; integers always are finite.
bool is_finite(DType dtype, std::span<const std::byte> bytes);

}  // namespace qvlm
