#include "model/attention.h"

#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/attention.h"
#include "quant/hadamard_rows.h"

namespace qvlm {
namespace {

// Tokens whose mask is made at once: [kChunk, positions].
constexpr std::int64_t kChunk = 256;
// Up to so many tokens each reads the cache for itself; more are faster as matrix products.
constexpr std::int64_t kFewTokens = 4;

// LibTorch's attention on CPU keeps scores of a block of tokens and positions only. query:
// [kv_heads, group, tokens, head_dim]; key, value: [kv_heads, 1, positions, head_dim]. Returns the
// shape of query.
at::Tensor attend(const at::Tensor& query,
                  const at::Tensor& key,
                  const at::Tensor& value,
                  const std::optional<at::Tensor>& mask,
                  bool causal) {
  // A group of query heads sees the same rows: a view without a copy.
  const auto repeated = [&](const at::Tensor& rows) {
    return rows.expand({-1, query.size(1), -1, -1});
  };
  return at::scaled_dot_product_attention(query, repeated(key), repeated(value), mask,
                                          /*dropout_p=*/0.0, causal);
}

// The same, causal, with the tokens at the end of the positions.
at::Tensor attend_causal(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const std::int64_t tokens = query.size(2), positions = key.size(2);
  // LibTorch's is_causal aligns the mask to the first position; with cached positions before the
  // tokens it has to be aligned to the last, so a mask is given. One token sees everything and
  // needs none.
  if (tokens == positions) return attend(query, key, value, {}, /*causal=*/true);
  if (tokens == 1) return attend(query, key, value, {}, /*causal=*/false);
  at::Tensor mixed = at::empty(query.sizes(), at::kFloat);
  for (std::int64_t begin = 0; begin < tokens; begin += kChunk) {
    const std::int64_t end = std::min(tokens, begin + kChunk);
    const std::int64_t seen = positions - tokens + end;
    const at::Tensor mask = at::ones({end - begin, seen}, at::kBool).tril(seen - (end - begin));
    mixed.slice(2, begin, end)
        .copy_(attend(query.slice(2, begin, end), key.slice(2, 0, seen), value.slice(2, 0, seen),
                      mask, /*causal=*/false));
  }
  return mixed;
}

// [heads, tokens, head_dim] -> [kv_heads, group, tokens, head_dim]
at::Tensor split_heads(const at::Tensor& query, std::int64_t kv_heads) {
  return query.unflatten(0, {kv_heads, query.size(0) / kv_heads});
}

// [kv_heads, group, tokens, head_dim] -> [tokens, heads * head_dim]
at::Tensor join_heads(const at::Tensor& mixed) {
  return mixed.permute({2, 0, 1, 3}).reshape({mixed.size(2), -1});
}

at::Tensor attend_many(const at::Tensor& query, const CachedLayer& cache) {
  const std::int64_t kv_heads = cache.keys.size(0);
  const at::Tensor groups = split_heads(query, kv_heads);
  if (cache.format == KvFormat::kFloat32) {
    const auto rows = [&](const at::Tensor& stored) {
      return stored.slice(2, 0, cache.head_dim).unsqueeze(1);
    };
    return join_heads(attend_causal(groups, rows(cache.keys), rows(cache.values)));
  }
  at::Tensor mixed = at::empty(groups.sizes(), at::kFloat);
  for (std::int64_t head = 0; head < kv_heads; ++head) {
    mixed.slice(0, head, head + 1)
        .copy_(attend_causal(groups.slice(0, head, head + 1),
                             expand_keys(cache, head).unsqueeze(0).unsqueeze(0),
                             expand_values(cache, head).unsqueeze(0).unsqueeze(0)));
  }
  return join_heads(mixed);
}

using Kernel = void (*)(const kernels::AttentionArguments&);

Kernel find_kernel(KvFormat format) {
  const kernels::AttentionKernels& all = kernels::attention_kernels(kernels::cpu_level());
  switch (format) {
    case KvFormat::kFloat32:
      return all.float32;
    case KvFormat::kBfloat16:
      return all.bfloat16;
    case KvFormat::kInt8:
      return all.int8;
    case KvFormat::kInt4:
      return all.int4;
  }
  fail(ErrorKind::kInternal, "attention: unknown format");
}

kernels::CachedRows rows_of(const at::Tensor& rows, const at::Tensor& scales, std::int64_t head) {
  const auto* bytes = static_cast<const char*>(rows.const_data_ptr());
  const std::int64_t offset = head * rows.stride(0) * static_cast<std::int64_t>(rows.itemsize());
  return {bytes + offset,
          scales.defined() ? scales.const_data_ptr<float>() + head * scales.stride(0) : nullptr};
}

at::Tensor attend_few(const at::Tensor& query, const CachedLayer& cache) {
  const std::int64_t heads = query.size(0), tokens = query.size(1);
  const std::int64_t kv_heads = cache.keys.size(0), positions = cache.keys.size(1);
  const std::int64_t stride = cache.stride, group = heads / kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(cache.head_dim));
  const at::Tensor scaled =
      at::constant_pad_nd(query.transpose(0, 1) * scale, {0, stride - cache.head_dim})
          .contiguous();  // [tokens, heads, stride]
  at::Tensor mixed = at::empty({tokens, heads, stride}, at::kFloat);
  const Kernel kernel = find_kernel(cache.format);
  const std::int64_t score_stride = positions + kernels::kRowMultiple;
  // A thread is worth it from some ten microseconds of work on.
  const std::int64_t grain = (1 << 16) / (tokens * positions * stride) + 1;
  for_ranges(kv_heads, grain, [&](std::int64_t begin, std::int64_t end) {
    const auto scores =
        std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(group * score_stride));
    for (std::int64_t head = begin; head < end; ++head) {
      for (std::int64_t token = 0; token < tokens; ++token) {
        const std::int64_t place = (token * heads + head * group) * stride;
        kernel({.keys = rows_of(cache.keys, cache.key_scales, head),
                .values = rows_of(cache.values, cache.value_scales, head),
                .positions = positions - tokens + token + 1,
                .stride = stride,
                .query = scaled.const_data_ptr<float>() + place,
                .queries = group,
                .scores = scores.get(),
                .score_stride = score_stride,
                .out = mixed.data_ptr<float>() + place});
      }
    }
  });
  return mixed.slice(2, 0, cache.head_dim).reshape({tokens, heads * cache.head_dim});
}

}  // namespace

at::Tensor attention(const at::Tensor& query,
                     const at::Tensor& key,
                     const at::Tensor& value,
                     bool causal) {
  const at::Tensor groups = split_heads(query, key.size(0));
  const at::Tensor keys = key.unsqueeze(1), values = value.unsqueeze(1);
  return join_heads(causal ? attend_causal(groups, keys, values)
                           : attend(groups, keys, values, {}, /*causal=*/false));
}

at::Tensor cached_attention(const at::Tensor& query, const CachedLayer& cache) {
  const auto attend_cached = [&cache](const at::Tensor& own) {
    return own.size(1) <= kFewTokens ? attend_few(own, cache) : attend_many(own, cache);
  };
  if (cache.turned == nullptr) return attend_cached(query);
  const at::Tensor mixed = attend_cached(hadamard_rows(query, *cache.turned));
  const std::vector<std::int64_t> heads = {mixed.size(0), query.size(0), query.size(2)};
  return undo_hadamard_rows(mixed.reshape(heads), *cache.turned).reshape(mixed.sizes());
}

}  // namespace qvlm
