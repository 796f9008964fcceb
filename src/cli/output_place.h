// Finding out before long work that its result could not be written.
#pragma once

#include <string>

namespace qvlm::cli {

// Throws kIo when a file of this name could not be written: its folder is missing or read-only, or
// the name is a folder's. An empty name means no file. Leaves nothing behind.
void check_output(const std::string& file);

}  // namespace qvlm::cli
