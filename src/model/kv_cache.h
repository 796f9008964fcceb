// Keys and values of the positions a sequence has already run, per decoder layer, as float32,
// bfloat16 or codes of 8 or 4 bits. Who reads them: model/attention.h.
//
// Codes have no room for channels of keys that are much larger than others, so both keys and values
// are turned by a Hadamard matrix within each head before they are rounded (as QuaRot does,
// Ashkboos et al. 2024): a query that is turned too has the same products with turned keys, and
// what is mixed of turned values is turned back.
#pragma once

#include <qvlm/kernels.h>
#include <qvlm/session.h>

#include <vector>

#include "io/hf_config.h"
#include "tensor/tensor.h"

namespace qvlm {

// What is stored of one layer, from the first position on; views of the cache's memory. Rows are
// padded with zeros behind head_dim, as the kernels want them.
struct CachedLayer {
  // [kv_heads, positions, stride], in the format of the cache; of kInt4 two codes a byte, see
  // kernels::CodePair.
  at::Tensor keys, values;
  // [kv_heads, positions]; of codes only: what those of a row are multiplied with.
  at::Tensor key_scales, value_scales;
  KvFormat format = KvFormat::kFloat32;
  std::int64_t head_dim = 0;
  std::int64_t stride = 0;                    // head_dim, padded
  const kernels::Hadamard* turned = nullptr;  // what the rows are turned by; null: they are not
};

// The rows of one head as float32 [positions, head_dim]; turned ones stay turned.
at::Tensor expand_keys(const CachedLayer& layer, std::int64_t head);
at::Tensor expand_values(const CachedLayer& layer, std::int64_t head);

// Not safe for use by two threads at once; each sequence has its own.
class KvCache {
 public:
  // Throws kInvalidArgument when the model has fewer than `capacity` positions.
  KvCache(const TextConfig& config, std::int64_t capacity, KvFormat format = KvFormat::kFloat32);

  std::int64_t length() const { return length_; }
  std::int64_t capacity() const { return capacity_; }
  // Memory of all layers at full capacity.
  std::int64_t bytes() const;
  // Makes room for so many positions, keeping what is stored; less than there is changes nothing.
  // Throws kInvalidArgument when the model has fewer.
  void reserve(std::int64_t capacity);

  // Stores key and value [kv_heads, tokens, head_dim] of a layer behind the finished positions;
  // returns those of all positions so far, length + tokens. Rounding is half to even; a row with a
  // NaN or an infinity gets a scale of NaN, where there are scales. Throws kInvalidArgument when
  // the capacity is exceeded.
  CachedLayer append(std::int64_t layer, const at::Tensor& key, const at::Tensor& value);
  // Counts the tokens as finished, after the last layer has appended them.
  void advance(std::int64_t tokens) { length_ += tokens; }
  // Forgets the positions from `length` on.
  void truncate(std::int64_t length) { length_ = length; }

 private:
  // Keys or values of one layer: [kv_heads, capacity, padded head_dim]; [kv_heads, capacity].
  struct Rows {
    at::Tensor rows, scales;
  };

  Rows make_rows(std::int64_t capacity) const;
  bool has_scales() const { return format_ == KvFormat::kInt8 || format_ == KvFormat::kInt4; }
  void store(const Rows& to, const at::Tensor& fresh) const;

  std::int64_t kv_heads_, head_dim_, stride_;
  std::int64_t max_positions_;
  std::int64_t capacity_ = 0;
  KvFormat format_;
  kernels::Hadamard hadamard_;  // of codes only
  std::int64_t length_ = 0;
  std::vector<Rows> keys_, values_;  // per layer
};

}  // namespace qvlm
