// The Cholesky factor of a large matrix on all threads, the same bit for bit for any number of
// them, which LibTorch's is not. For rounding/gptq.
#pragma once

#include "tensor/tensor.h"

namespace qvlm {

// Overwrites the lower triangle of a float64 matrix [n, n] by that of its factor L, matrix = L L^T;
// what is above the diagonal is neither read nor of use after. Returns false where the matrix is
// not positive definite; it is lost then.
bool factorize_cholesky(at::Tensor& matrix);

}  // namespace qvlm
