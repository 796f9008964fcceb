// Log lines to stderr. Library code logs only what a caller cannot get as a value (a fallback that
// was taken, a tensor that was ignored); results and errors never go here.
#pragma once

#include <string>

namespace qvlm {

enum class LogLevel { kWarning, kOff };

void set_log_level(LogLevel level);
void log_warning(const std::string& message);

}  // namespace qvlm
