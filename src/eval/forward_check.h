// A few forward passes of a folder, packed and simulated: whether it runs, and whether both ways to
// compute agree. Right answers are eval/evaluate's business.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "eval/tensor_check.h"

namespace qvlm {

struct ForwardCheck {
  std::int64_t passes = 0;
  // Of packed from simulated logits, and what it may be at most: root of mean square.
  double difference = 0.0, bound = 0.0;
};

// What the passes take of memory at most, in bytes, about.
std::int64_t forward_check_memory(const OpenedModel& model);

// Shows the model a made-up image, asks a question and appends two tokens, on packed kernels and,
// where linears are quantized, simulated and on their float values. Logits that are not finite, or
// packed ones that are further from the simulated than rounding explains, go to `problems`.
// `on_run` is called after each of the three.
ForwardCheck check_forward(const OpenedModel& model,
                           ProblemList& problems,
                           const std::function<void()>& on_run);

}  // namespace qvlm
