// Ctrl-C ends a long run cleanly: work in progress notices it at its next step and unwinds, so that
// files under construction disappear. A second Ctrl-C ends the process at once.
#pragma once

#include <string>

namespace qvlm::cli {

// Thrown by throw_if_interrupted(). Not an Error: nothing went wrong.
struct Interrupted {
  int signal = 0;
};

// Thrown when a search was stopped after a block or an epoch: `qvlm quantize --resume` goes on from
// there.
struct Stopped {
  std::string how_to_resume;
};

void catch_interrupts();  // SIGINT and SIGTERM
bool is_interrupted();
void throw_if_interrupted();

}  // namespace qvlm::cli
