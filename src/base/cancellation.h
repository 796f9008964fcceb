// Work that another thread may end: whoever does it asks its token between two steps.
#pragma once

#include <stop_token>

namespace qvlm {

// Thrown by throw_if_cancelled(). Not an Error: nothing went wrong.
struct Cancelled {};

inline void throw_if_cancelled(const std::stop_token& cancel) {
  if (cancel.stop_requested()) throw Cancelled{};
}

}  // namespace qvlm
