#include "cli/interrupt.h"

#include <csignal>

namespace qvlm::cli {
namespace {

volatile std::sig_atomic_t caught_signal = 0;

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { caught_signal = signal; };
  action.sa_flags =
      static_cast<int>(SA_RESETHAND | SA_RESTART);  // the second one has its default effect
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool is_interrupted() {
  return caught_signal != 0;
}

void throw_if_interrupted() {
  if (is_interrupted()) throw Interrupted{static_cast<int>(caught_signal)};
}

}  // namespace qvlm::cli
