// What this process takes of the machine's memory, as Linux tells it. Zeros elsewhere.
#pragma once

#include <cstdint>

namespace qvlm {

// Pages that are in memory now, those of mapped files included.
std::int64_t resident_memory_bytes();
// The most that were, since the start or the last reset_peak_memory().
std::int64_t peak_memory_bytes();
// Lets the peak begin anew from what is resident now. Returns false where the system refuses.
bool reset_peak_memory();

// What the system could give without swapping.
std::int64_t available_memory_bytes();

// Gives pages of freed blocks back; the allocator would keep many for later.
void return_freed_memory();

}  // namespace qvlm
