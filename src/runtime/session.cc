#include <qvlm/kernels.h>
#include <qvlm/session.h>

#include <chrono>
#include <stdexcept>

#include "base/error.h"
#include "base/process_memory.h"
#include "io/kv_format.h"
#include "model/memory_plan.h"
#include "runtime/session_state.h"
#include "tensor/public_call.h"

namespace qvlm {
namespace {

// A level that this CPU lacks is found before the weights are read.
void check_cpu_level() {
  try {
    kernels::cpu_level();
  } catch (const std::runtime_error& error) {
    fail(ErrorKind::kUnsupported, error.what());
  }
}

}  // namespace

Session::Session(std::shared_ptr<const State> state, KvFormat kv_cache)
    : state_(std::move(state)), kv_cache_(kv_cache) {}

Session Session::open(const std::filesystem::path& model, const SessionOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  require(options.memory_limit >= 0, ErrorKind::kInvalidArgument,
          "memory_limit must not be negative, got ", options.memory_limit);
  const Checkpoint checkpoint = Checkpoint::open(model);
  const KvFormat kv_cache = choose_kv_format(checkpoint, options.kv_cache);
  const std::int64_t weight_bytes = plan_memory(checkpoint, options.execution, {}).weights;
  const auto budget = std::make_shared<MemoryBudget>(options.memory_limit);
  MemoryBudget::Reservation weights =
      budget->reserve(weight_bytes, join("the weights of ", model.string()));
  check_cpu_level();
  Engine engine =
      public_call([&] { return Engine::load(model, options.execution, options.packed_cache); });
  const ModelConfig& config = engine.model().config();
  SessionInfo info;
  info.checkpoint_bytes = engine.checkpoint_bytes();
  info.weight_bytes = weight_bytes;
  info.max_positions = config.text.max_positions;
  info.image_positions = config.image_tokens();
  info.load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return Session(
      std::make_shared<const State>(State{budget, std::move(weights), std::move(engine), info}),
      kv_cache);
}

Session Session::with_kv_cache(KvFormat format) const {
  return Session(state_, format);
}

Reply Session::generate(const Question& question,
                        const GenerateOptions& options,
                        const TextCallback& on_text) const {
  return start().ask(question, options, on_text);
}

SessionInfo Session::info() const {
  SessionInfo info = state_->info;
  info.kv_cache = kv_cache_;
  info.kv_bytes = KvCache(state_->engine.model().config().text, 1, kv_cache_).bytes();
  return info;
}

std::int64_t Session::memory_in_use() const {
  return state_->budget->in_use();
}

ProcessMemory process_memory() {
  return {resident_memory_bytes(), peak_memory_bytes()};
}

}  // namespace qvlm
