#include "model/kv_cache.h"

#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/attention.h"

namespace qvlm {
namespace {

at::ScalarType stored_type(KvFormat format) {
  switch (format) {
    case KvFormat::kFloat32:
      return at::kFloat;
    case KvFormat::kBfloat16:
      return at::kBFloat16;
    case KvFormat::kInt8:
      return at::kChar;
    case KvFormat::kInt4:
      return at::kByte;
  }
  fail(ErrorKind::kInternal, "KvCache: unknown format");
}

// Two codes of 4 bits a byte, see kernels::CodePair. Codes are 0 behind head_dim.
void pack_pairs(const std::int8_t* codes, std::int64_t pairs, std::uint8_t* to) {
  for (std::int64_t i = 0; i < pairs; ++i)
    to[i] = static_cast<std::uint8_t>((codes[2 * i] + 8) | (codes[2 * i + 1] + 8) << 4);
}

// Codes of rows [heads, tokens, head_dim], rounded by the rule of activations. rows: [heads,
// tokens, ..], scales: [heads, tokens], parts of the cache.
void store_codes(const at::Tensor& fresh,
                 const kernels::ActivationCodes& format,
                 const at::Tensor& rows,
                 const at::Tensor& scales) {
  const at::Tensor values = fresh.contiguous();
  const std::int64_t heads = values.size(0), tokens = values.size(1), head_dim = values.size(2);
  kernels::QuantizedRows codes;
  codes.resize(heads * tokens, head_dim, /*group_size=*/0);
  const std::int64_t stride = kernels::row_stride(head_dim);
  // A range has enough rows to be worth a thread.
  for_ranges(heads * tokens, 256, [&](std::int64_t begin, std::int64_t end) {
    kernels::quantize_rows(values.const_data_ptr<float>(), format, begin, end, codes);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / tokens, token = i % tokens;
      const std::int8_t* from = codes.codes.data() + i * stride;
      auto* to = static_cast<std::uint8_t*>(rows.data_ptr()) + head * rows.stride(0) +
                 token * rows.stride(1);
      if (format.bits == 4) {
        pack_pairs(from, rows.size(2), to);
      } else {
        std::memcpy(to, from, static_cast<std::size_t>(head_dim));
      }
      scales.data_ptr<float>()[head * scales.stride(0) + token] =
          codes.scales[static_cast<std::size_t>(i)];
    }
  });
}

// What pairs of codes [.., pairs] stand for: [.., 2 pairs].
at::Tensor unpack_pairs(const at::Tensor& pairs) {
  const at::Tensor even = pairs.bitwise_and(15), odd = pairs.bitwise_right_shift(4);
  return at::stack({even, odd}, -1).flatten(-2).to(at::kFloat) - 8.0;
}

at::Tensor expand(const CachedLayer& layer, const at::Tensor& rows, const at::Tensor& scales) {
  const at::Tensor values = layer.format == KvFormat::kInt4 ? unpack_pairs(rows) : rows;
  const at::Tensor used = values.slice(1, 0, layer.head_dim);
  return scales.defined() ? used * scales.unsqueeze(1) : used.to(at::kFloat);
}

}  // namespace

at::Tensor expand_keys(const CachedLayer& layer, std::int64_t head) {
  const at::Tensor& scales = layer.key_scales;
  return expand(layer, layer.keys[head], scales.defined() ? scales[head] : scales);
}

at::Tensor expand_values(const CachedLayer& layer, std::int64_t head) {
  const at::Tensor& scales = layer.value_scales;
  return expand(layer, layer.values[head], scales.defined() ? scales[head] : scales);
}

KvCache::KvCache(const TextConfig& config, std::int64_t capacity, KvFormat format)
    : kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      stride_((head_dim_ + kernels::kRowMultiple - 1) / kernels::kRowMultiple *
              kernels::kRowMultiple),
      max_positions_(config.max_positions),
      format_(format) {
  if (has_scales()) hadamard_ = kernels::make_hadamard(head_dim_);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    keys_.push_back(make_rows(0));
    values_.push_back(make_rows(0));
  }
  reserve(capacity);
}

KvCache::Rows KvCache::make_rows(std::int64_t capacity) const {
  const std::int64_t width = format_ == KvFormat::kInt4 ? stride_ / 2 : stride_;
  const std::vector<std::int64_t> shape = {kv_heads_, capacity, width};
  // Without padding memory is touched only once it is used. Pairs are written whole.
  const bool padded = stride_ != head_dim_ && format_ != KvFormat::kInt4;
  Rows rows{
      padded ? at::zeros(shape, stored_type(format_)) : at::empty(shape, stored_type(format_)), {}};
  if (has_scales()) rows.scales = at::empty({kv_heads_, capacity}, at::kFloat);
  return rows;
}

void KvCache::reserve(std::int64_t capacity) {
  require(capacity <= max_positions_, ErrorKind::kInvalidArgument, "the sequence would take ",
          capacity, " positions, the model has ", max_positions_);
  if (capacity <= capacity_) return;
  for (std::vector<Rows>* all : {&keys_, &values_}) {
    for (Rows& layer : *all) {
      Rows larger = make_rows(capacity);
      larger.rows.slice(1, 0, length_).copy_(layer.rows.slice(1, 0, length_));
      if (larger.scales.defined())
        larger.scales.slice(1, 0, length_).copy_(layer.scales.slice(1, 0, length_));
      layer = std::move(larger);
    }
  }
  capacity_ = capacity;
}

std::int64_t KvCache::bytes() const {
  std::size_t sum = 0;
  for (const std::vector<Rows>* all : {&keys_, &values_}) {
    for (const Rows& layer : *all)
      sum += layer.rows.nbytes() + (layer.scales.defined() ? layer.scales.nbytes() : 0);
  }
  return static_cast<std::int64_t>(sum);
}

void KvCache::store(const Rows& to, const at::Tensor& fresh) const {
  const std::int64_t end = length_ + fresh.size(1);
  const at::Tensor rows = to.rows.slice(1, length_, end);
  if (!has_scales()) {
    rows.slice(2, 0, head_dim_).copy_(fresh);
    return;
  }
  kernels::ActivationCodes codes{.bits = format_ == KvFormat::kInt4 ? 4 : 8};
  if (hadamard_.width > 1) codes.transform = &hadamard_;
  store_codes(fresh, codes, rows, to.scales.slice(1, length_, end));
}

CachedLayer KvCache::append(std::int64_t layer, const at::Tensor& key, const at::Tensor& value) {
  const std::int64_t end = length_ + key.size(1);
  require(end <= capacity_, ErrorKind::kInvalidArgument, "the sequence needs ", end,
          " positions, the cache holds ", capacity_);
  const Rows& keys = keys_[static_cast<std::size_t>(layer)];
  const Rows& values = values_[static_cast<std::size_t>(layer)];
  store(keys, key);
  store(values, value);
  CachedLayer cached{keys.rows.slice(1, 0, end),
                     values.rows.slice(1, 0, end),
                     {},
                     {},
                     format_,
                     head_dim_,
                     stride_,
                     hadamard_.width > 1 ? &hadamard_ : nullptr};
  if (has_scales()) {
    cached.key_scales = keys.scales.slice(1, 0, end);
    cached.value_scales = values.scales.slice(1, 0, end);
  }
  return cached;
}

}  // namespace qvlm
