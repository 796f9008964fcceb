// The machine this process runs on, by name.
#pragma once

#include <string>

namespace qvlm {

// The processor's name, family and model, as Linux tells them: "AMD EPYC 26.2"; "unknown"
// elsewhere. The name alone does not tell generations apart where a virtual machine hides which it
// is.
std::string cpu_name();

}  // namespace qvlm
