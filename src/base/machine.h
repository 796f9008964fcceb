// The machine this process runs on, by name.
#pragma once

#include <string>

namespace qvlm {

// The processor's name, as Linux tells it: "AMD EPYC 9B14"; "unknown" elsewhere.
std::string cpu_name();

}  // namespace qvlm
