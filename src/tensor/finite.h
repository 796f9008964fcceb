// Whether a tensor holds numbers only; of bytes in a file, io/finite.h.
#pragma once

#include "tensor/tensor.h"

namespace qvlm {

// No NaN and no infinity. Takes no memory of the tensor's size, which at::isfinite would several
// times. REQUIRES: not empty.
bool is_finite(const at::Tensor& tensor);

}  // namespace qvlm
