// Attention of one decoded token on cached keys and values, read as they are stored: float32,
// bfloat16, or codes of 8 or 4 bits with a scale per row. Not for prompts: those have enough
// queries for matrix products. Nothing is checked here; the caller is model/attention.cc.
#pragma once

#include "kernels/attention_table.h"
#include "qvlm/kernels.h"

namespace qvlm::kernels {

// The kernels of a level that this CPU has; the caller wants those of cpu_level().
//
// Sums and the softmax are in float32; levels differ in the order of sums and in fused steps only.
// A NaN in the query, a key, a value or a scale makes every output that it reaches NaN.
const AttentionKernels& attention_kernels(CpuLevel level);

}  // namespace qvlm::kernels
