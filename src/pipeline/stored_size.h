// Bytes of tensors, before and after: of shapes and schemes, nothing is read.
#pragma once

#include "io/checkpoint.h"
#include "io/declare_quantization.h"
#include "model/linear_list.h"

namespace qvlm {

// Of the tensors that a linear becomes under a scheme.
std::int64_t stored_bytes(const Checkpoint& source,
                          const LinearShape& linear,
                          const LinearScheme& scheme);

// Of all tensors of a checkpoint.
std::int64_t tensor_bytes(const Checkpoint& checkpoint);

}  // namespace qvlm
