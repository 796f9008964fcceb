// What the cache gives back of what it was given.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr KvFormat kFormats[] = {KvFormat::kFloat32, KvFormat::kBfloat16, KvFormat::kInt8};

TextConfig make_config(std::int64_t head_dim) {
  TextConfig config;
  config.layers = 2;
  config.kv_heads = 3;
  config.head_dim = head_dim;
  config.max_positions = 64;
  return config;
}

at::Tensor read(const at::Tensor& rows, const at::Tensor& scales) {
  return scales.defined() ? rows * scales.unsqueeze(-1) : rows.to(at::kFloat);
}

// bfloat16 has 8 bits of precision: half a unit in the last place is 2^-9 of the value, at most
// 2^-8 of it when it is just above a power of two. int8: half a step, absmax / 127.5 / 2, and as
// much again for the rounding of scale and product in float32 as 2^-20 of absmax.
at::Tensor bound(KvFormat format, const at::Tensor& x) {
  if (format == KvFormat::kFloat32) return at::zeros_like(x);
  if (format == KvFormat::kBfloat16) return x.abs() * 0x1p-8;
  return (x.abs().amax(-1, true) * (0.5 / 127.5 + 0x1p-20)).expand_as(x);
}

TEST(KvCache, GivesBackWhatItStoredInPieces) {
  at::manual_seed(1);
  for (const KvFormat format : kFormats) {
    for (const std::int64_t head_dim : {1, 16, 37, 64}) {
      KvCache cache(make_config(head_dim), 4, format);
      const at::Tensor key = at::randn({3, 10, head_dim}), value = at::randn({3, 10, head_dim});
      cache.append(1, key.slice(1, 0, 4), value.slice(1, 0, 4));
      cache.advance(4);
      cache.reserve(10);
      const CachedLayer all = cache.append(1, key.slice(1, 4), value.slice(1, 4));
      const at::Tensor keys = read(all.keys, all.key_scales);
      const at::Tensor values = read(all.values, all.value_scales);
      const auto near = [&](const at::Tensor& got, const at::Tensor& want) {
        return ((got.slice(2, 0, head_dim) - want).abs() <= bound(format, want)).all().item<bool>();
      };
      EXPECT_TRUE(near(keys, key));
      EXPECT_TRUE(near(values, value));
      EXPECT_EQ(keys.slice(2, head_dim).count_nonzero().item<std::int64_t>(), 0);
    }
  }
}

TEST(KvCache, TruncatedPositionsAreWrittenAgain) {
  for (const KvFormat format : kFormats) {
    KvCache cache(make_config(16), 8, format);
    const at::Tensor first = at::ones({3, 8, 16}), second = at::full({3, 2, 16}, 2.0);
    cache.append(0, first, first);
    cache.advance(8);
    cache.truncate(3);
    const CachedLayer all = cache.append(0, second, second);
    const at::Tensor got = read(all.keys, all.key_scales);
    EXPECT_EQ(got.size(1), 5);
    EXPECT_NEAR(got.sum().item<double>(), 3 * 16 * (3 + 2 * 2), 1.5);  // half a step each at most
  }
}

TEST(KvCache, CapacityIsChecked) {
  EXPECT_THROW(KvCache(make_config(16), 65), Error);
  KvCache cache(make_config(16), 4);
  const at::Tensor five = at::ones({3, 5, 16});
  EXPECT_THROW(cache.append(0, five, five), Error);
}

TEST(KvCache, SaysItsMemory) {
  const std::int64_t elements = 2 * 2 * 3 * 10 * 64;  // keys and values, layers, heads
  EXPECT_EQ(KvCache(make_config(64), 10, KvFormat::kFloat32).bytes(), 4 * elements);
  EXPECT_EQ(KvCache(make_config(64), 10, KvFormat::kBfloat16).bytes(), 2 * elements);
  EXPECT_EQ(KvCache(make_config(64), 10, KvFormat::kInt8).bytes(), elements + elements / 64 * 4);
}

TEST(KvCache, NotFiniteStaysNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const KvFormat format : kFormats) {
    for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      KvCache cache(make_config(16), 2, format);
      at::Tensor key = at::ones({3, 2, 16});
      key[1][1][5] = bad;
      const CachedLayer all = cache.append(0, key, at::ones({3, 2, 16}));
      const at::Tensor got = read(all.keys, all.key_scales);
      EXPECT_FALSE(std::isfinite(got[1][1][5].item<float>()));
      EXPECT_TRUE(got[1][0].isfinite().all().item<bool>());
      EXPECT_TRUE(got[2].isfinite().all().item<bool>());
    }
  }
}

}  // namespace
}  // namespace qvlm
