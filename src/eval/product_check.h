// The kernels' product of a quantized linear beside the simulated one, on made-up inputs: each
// linear by itself, where both ways see the same numbers and a tight bound holds. Whole passes, in
// which roundings that differ spread, are eval/forward_check.
#pragma once

#include <string>

#include "io/quantized_checkpoint.h"

namespace qvlm {

// Says by how much the products differ; empty: by no more than float sums in another order do, or
// the scheme has no packed product.
std::string check_packed_product(const QuantizedWeight& weight, const LinearScheme& scheme);

}  // namespace qvlm
