// Keys and values of the positions a sequence has already run, per decoder layer.
#pragma once

#include <utility>
#include <vector>

#include "io/hf_config.h"
#include "tensor/tensor.h"

namespace qvlm {

// Not safe for use by two threads at once; each sequence has its own.
class KvCache {
 public:
  KvCache(const TextConfig& config, std::int64_t capacity);

  std::int64_t length() const { return length_; }

  // Stores key and value [kv_heads, tokens, head_dim] of a layer behind the finished positions;
  // returns those of all positions so far, [kv_heads, length + tokens, head_dim]. Throws
  // kInvalidArgument when the capacity is exceeded.
  std::pair<at::Tensor, at::Tensor> append(std::int64_t layer,
                                           const at::Tensor& key,
                                           const at::Tensor& value);
  // Counts the tokens as finished, after the last layer has appended them.
  void advance(std::int64_t tokens) { length_ += tokens; }
  // Forgets the positions from `length` on.
  void truncate(std::int64_t length) { length_ = length; }

 private:
  std::int64_t capacity_;
  std::int64_t length_ = 0;
  std::vector<at::Tensor> keys_, values_;  // per layer [kv_heads, capacity, head_dim]
};

}  // namespace qvlm
