#include "model/matmul_clock.h"

#include <atomic>
#include <cstdint>

namespace qvlm {
namespace {

std::atomic<std::int64_t> total_nanoseconds = 0;

}  // namespace

double matmul_seconds() {
  return 1e-9 * static_cast<double>(total_nanoseconds.load(std::memory_order_relaxed));
}

MatmulTimer::~MatmulTimer() {
  const auto spent = std::chrono::steady_clock::now() - start_;
  total_nanoseconds.fetch_add(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count(),
                              std::memory_order_relaxed);
}

}  // namespace qvlm
