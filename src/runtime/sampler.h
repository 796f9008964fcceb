// Choosing the next token from logits.
#pragma once

#include <qvlm/session.h>

#include "base/random.h"
#include "tensor/tensor.h"

namespace qvlm {

class Sampler {
 public:
  // Uses temperature, top_k, top_p and seed. Throws kInvalidArgument for values out of range.
  explicit Sampler(const GenerateOptions& options);

  // logits: [vocab]. Greedy at temperature 0 (the lowest id among equals); otherwise temperature,
  // top_k and top_p are applied in this order, as transformers does. Throws kCorrupt if a logit is
  // NaN or +infinity, or all are -infinity.
  std::int32_t pick(const at::Tensor& logits);

 private:
  GenerateOptions options_;
  Random random_;
};

}  // namespace qvlm
