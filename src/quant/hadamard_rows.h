// Rows turned by a Hadamard matrix, as tensors: what LinearScheme::hadamard_input does to the
// weight of a linear once, and to its input while it runs. Turning both leaves their product as it
// is.
#pragma once

#include <qvlm/kernels.h>
#include <qvlm/scheme.h>

#include "tensor/tensor.h"

namespace qvlm {

// [.., in] float32 -> the same times H, see kernels::transform_rows(); on all threads.
at::Tensor hadamard_rows(const at::Tensor& rows, const kernels::Hadamard& hadamard);
// The same times the transpose of H: undoes it.
at::Tensor undo_hadamard_rows(const at::Tensor& rows, const kernels::Hadamard& hadamard);

// The transform of a linear with `in` inputs. REQUIRES: the scheme has one. Throws kUnsupported
// where it is another than kernels::make_hadamard(in) makes: by another version.
kernels::Hadamard hadamard_of(const LinearScheme& scheme, std::int64_t in);

// The weight [out, in] float32 that is rounded under this scheme: turned, where it says so.
at::Tensor weight_to_round(const at::Tensor& weight, const LinearScheme& scheme);

}  // namespace qvlm
