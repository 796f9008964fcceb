// How long linears have been multiplying: what `qvlm bench` subtracts to tell what the rest costs.
#pragma once

#include <chrono>

namespace qvlm {

// Seconds in products of linears (with the quantization of their inputs and what is fused into
// them) since the process began, summed over the threads that called them. Safe to call at any
// time.
double matmul_seconds();

// Adds its own lifetime to matmul_seconds(). Costs two readings of the clock, some 50 ns.
class MatmulTimer {
 public:
  MatmulTimer() : start_(std::chrono::steady_clock::now()) {}
  ~MatmulTimer();
  MatmulTimer(const MatmulTimer&) = delete;
  MatmulTimer& operator=(const MatmulTimer&) = delete;

 private:
  std::chrono::steady_clock::time_point start_;
};

}  // namespace qvlm
