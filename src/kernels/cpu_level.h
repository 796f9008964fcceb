// Choice of the CPU level; the public half of it is in qvlm/kernels.h.
#pragma once

#include "qvlm/kernels.h"

namespace qvlm::kernels {

// Returns the level named `forced`, or the best one of this CPU if `forced` is null or empty.
// Throws std::runtime_error, listing the choices, if that is unknown or more than this CPU has.
CpuLevel choose_cpu_level(const char* forced);

}  // namespace qvlm::kernels
