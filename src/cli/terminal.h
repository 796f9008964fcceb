// What stderr is connected to.
#pragma once

namespace qvlm::cli {

bool stderr_is_terminal();
// On a terminal that can show it, unless NO_COLOR is set.
bool stderr_has_colour();

}  // namespace qvlm::cli
