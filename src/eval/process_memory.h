// How much memory this process has needed so far.
#pragma once

#include <cstdint>

namespace qvlm {

// Highest resident set since the start (VmHWM of /proc/self/status); 0 where the system does not
// tell.
std::int64_t peak_memory_bytes();

}  // namespace qvlm
