// What the kernels get to know of a Hadamard transform; make_hadamard() of qvlm/kernels.h is beside
// it in hadamard.cc, and the arithmetic is in hadamard_lanes.h.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/kernel_table.h"
#include "qvlm/kernels.h"

namespace qvlm::kernels {

// The arguments for rows of `in` values, with memory of the calling thread that the next call takes
// again; nothing for null and for transforms of width 0 or 1, which change no value. Throws
// std::invalid_argument if `in` is no multiple of the width or the members do not fit together.
std::optional<TransformArguments> find_transform(const Hadamard* transform, std::int64_t in);

}  // namespace qvlm::kernels
