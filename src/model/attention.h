// Softmax attention. Memory grows with tokens plus positions, never with their product: scores
// exist for a block of tokens at a time.
#pragma once

#include "model/kv_cache.h"
#include "tensor/tensor.h"

namespace qvlm {

// query: [heads, tokens, head_dim]; key, value: [kv_heads, positions, head_dim], heads a multiple
// of kv_heads; all float32. `causal`: token t sees the first positions - tokens + t + 1 positions.
// Returns [tokens, heads * head_dim].
at::Tensor attention(const at::Tensor& query,
                     const at::Tensor& key,
                     const at::Tensor& value,
                     bool causal);

// The same, causal, on what a KvCache holds; the tokens are its last positions. A few tokens (as
// in decoding) read the cache as it is stored; for more of them it is expanded to float32, one
// key and value head at a time. The result does not depend on the number of threads.
at::Tensor cached_attention(const at::Tensor& query, const CachedLayer& cache);

}  // namespace qvlm
