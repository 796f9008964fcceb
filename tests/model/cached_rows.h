// What a KvCache holds, as floats again.
#pragma once

#include <vector>

#include "model/kv_cache.h"
#include "quant/hadamard_rows.h"

namespace qvlm {

// All heads, turned back; expand: expand_keys or expand_values. [kv_heads, positions, head_dim].
inline at::Tensor read_back(const CachedLayer& layer,
                            at::Tensor (*expand)(const CachedLayer&, std::int64_t)) {
  std::vector<at::Tensor> heads;
  for (std::int64_t head = 0; head < layer.keys.size(0); ++head)
    heads.push_back(expand(layer, head));
  const at::Tensor all = at::stack(heads);
  return layer.turned == nullptr ? all : undo_hadamard_rows(all, *layer.turned);
}

}  // namespace qvlm
