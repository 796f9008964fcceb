// What a model will take in memory, computed from its configuration and schemes before a weight is
// read. `qvlm bench` prints it beside what was measured.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/checkpoint.h"
#include "io/hf_config.h"
#include "model/linear.h"

namespace qvlm {

struct MemoryPlan {
  std::int64_t weights = 0;      // as the parts of the model keep them, biases and tables included
  std::int64_t kv_cache = 0;     // of one sequence
  std::int64_t activations = 0;  // most that one image or one prompt needs at a time, about

  std::int64_t resident() const { return weights + kv_cache; }
  std::int64_t peak() const { return weights + kv_cache + activations; }
};

// What the sizes depend on beside the model's shape.
struct MemoryTerms {
  std::int64_t stored_bytes = 2;  // of a value in matrices that are not quantized: 2, or 4
  std::int64_t prompt = 0;        // positions read at once
  std::int64_t capacity = 0;      // positions the sequence may reach
  KvFormat kv_cache = KvFormat::kFloat32;
};

// Bytes of one linear's weight under an execution, without its bias. stored_bytes: see MemoryTerms.
std::int64_t linear_bytes(std::int64_t out,
                          std::int64_t in,
                          const std::optional<LinearScheme>& scheme,
                          Execution execution,
                          std::int64_t stored_bytes);

// schemes: of the linears that are quantized, by our names.
MemoryPlan plan_memory(const ModelConfig& config,
                       const std::map<std::string, LinearScheme>& schemes,
                       Execution execution,
                       const MemoryTerms& terms);
// The same for a folder as it lies on disk, which says what terms.stored_bytes is.
MemoryPlan plan_memory(const Checkpoint& checkpoint, Execution execution, MemoryTerms terms);

// MemoryPlan::activations of a prompt of so many positions.
std::int64_t activation_bytes(const ModelConfig& config, std::int64_t prompt);

}  // namespace qvlm
