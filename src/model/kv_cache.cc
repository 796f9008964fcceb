#include "model/kv_cache.h"

#include "base/error.h"

namespace qvlm {

KvCache::KvCache(const TextConfig& config, std::int64_t capacity) : capacity_(capacity) {
  require(capacity <= config.max_positions, ErrorKind::kInvalidArgument, "the sequence would take ",
          capacity, " positions, the model has ", config.max_positions);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    keys_.push_back(at::empty({config.kv_heads, capacity, config.head_dim}, at::kFloat));
    values_.push_back(at::empty({config.kv_heads, capacity, config.head_dim}, at::kFloat));
  }
}

std::pair<at::Tensor, at::Tensor> KvCache::append(std::int64_t layer,
                                                  const at::Tensor& key,
                                                  const at::Tensor& value) {
  const std::int64_t end = length_ + key.size(1);
  require(end <= capacity_, ErrorKind::kInvalidArgument, "the sequence needs ", end,
          " positions, the cache holds ", capacity_);
  const auto store = [&](std::vector<at::Tensor>& all, const at::Tensor& fresh) {
    at::Tensor& kept = all[static_cast<std::size_t>(layer)];
    kept.slice(1, length_, end).copy_(fresh);
    return kept.slice(1, 0, end);
  };
  return {store(keys_, key), store(values_, value)};
}

}  // namespace qvlm
