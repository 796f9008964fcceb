#include "cli/terminal.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace qvlm::cli {

bool stderr_is_terminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

bool stderr_has_colour() {
  const char* refused = std::getenv("NO_COLOR");  // by convention: set and not empty
  return stderr_is_terminal() && (refused == nullptr || *refused == '\0');
}

}  // namespace qvlm::cli
