// What all copies of a session and its conversations share.
#pragma once

#include <qvlm/session.h>

#include <memory>

#include "runtime/engine.h"
#include "runtime/memory_budget.h"

namespace qvlm {

struct Session::State {
  std::shared_ptr<MemoryBudget> budget;
  MemoryBudget::Reservation weights;
  Engine engine;
  SessionInfo info;  // but for kv_bytes, which is a session's own
};

}  // namespace qvlm
