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
  }
  fail(ErrorKind::kInternal, "KvCache: unknown format");
}

// Codes of rows [heads, tokens, head_dim], rounded by the rule of activations. rows: [heads,
// tokens, padded head_dim], scales: [heads, tokens], parts of the cache.
void store_int8(const at::Tensor& fresh, const at::Tensor& rows, const at::Tensor& scales) {
  const at::Tensor values = fresh.contiguous();
  const std::int64_t heads = values.size(0), tokens = values.size(1), head_dim = values.size(2);
  kernels::QuantizedRows codes;
  codes.resize(heads * tokens, head_dim, /*group_size=*/0);
  const std::int64_t stride = kernels::row_stride(head_dim);
  // A range has enough rows to be worth a thread.
  for_ranges(heads * tokens, 256, [&](std::int64_t begin, std::int64_t end) {
    kernels::quantize_rows(values.const_data_ptr<float>(), {}, begin, end, codes);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / tokens, token = i % tokens;
      std::memcpy(rows.data_ptr<std::int8_t>() + head * rows.stride(0) + token * rows.stride(1),
                  codes.codes.data() + i * stride, static_cast<std::size_t>(head_dim));
      scales.data_ptr<float>()[head * scales.stride(0) + token] =
          codes.scales[static_cast<std::size_t>(i)];
    }
  });
}

}  // namespace

KvCache::KvCache(const TextConfig& config, std::int64_t capacity, KvFormat format)
    : kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      max_positions_(config.max_positions),
      format_(format) {
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    keys_.push_back(make_rows(0));
    values_.push_back(make_rows(0));
  }
  reserve(capacity);
}

KvCache::Rows KvCache::make_rows(std::int64_t capacity) const {
  constexpr std::int64_t kMultiple = kernels::kRowMultiple;
  const std::int64_t padded = (head_dim_ + kMultiple - 1) / kMultiple * kMultiple;
  const std::vector<std::int64_t> shape = {kv_heads_, capacity, padded};
  // Without padding memory is touched only once it is used.
  Rows rows{padded == head_dim_ ? at::empty(shape, stored_type(format_))
                                : at::zeros(shape, stored_type(format_)),
            {}};
  if (format_ == KvFormat::kInt8) rows.scales = at::empty({kv_heads_, capacity}, at::kFloat);
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
  if (format_ == KvFormat::kInt8) {
    store_int8(fresh, rows, to.scales.slice(1, length_, end));
  } else {
    rows.slice(2, 0, head_dim_).copy_(fresh);
  }
}

CachedLayer KvCache::append(std::int64_t layer, const at::Tensor& key, const at::Tensor& value) {
  const std::int64_t end = length_ + key.size(1);
  require(end <= capacity_, ErrorKind::kInvalidArgument, "the sequence needs ", end,
          " positions, the cache holds ", capacity_);
  const Rows& keys = keys_[static_cast<std::size_t>(layer)];
  const Rows& values = values_[static_cast<std::size_t>(layer)];
  store(keys, key);
  store(values, value);
  CachedLayer cached{keys.rows.slice(1, 0, end), values.rows.slice(1, 0, end), {}, {}, head_dim_};
  if (format_ == KvFormat::kInt8) {
    cached.key_scales = keys.scales.slice(1, 0, end);
    cached.value_scales = values.scales.slice(1, 0, end);
  }
  return cached;
}

}  // namespace qvlm
