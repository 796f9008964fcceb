// What the cache gives back of what it was given.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/cached_rows.h"
#include "quant/hadamard_rows.h"

namespace qvlm {
namespace {

constexpr KvFormat kFormats[] = {KvFormat::kFloat32, KvFormat::kBfloat16, KvFormat::kInt8,
                                 KvFormat::kInt4};

TextConfig make_config(std::int64_t head_dim) {
  TextConfig config;
  config.layers = 2;
  config.kv_heads = 3;
  config.head_dim = head_dim;
  config.max_positions = 64;
  return config;
}

// bfloat16 has 8 bits of precision: half a unit in the last place is 2^-9 of the value, at most
// 2^-8 of it when it is just above a power of two. Codes: half a step, absmax / 7.5 / 2 or absmax /
// 127.5 / 2, of the turned values, and 1e-5 of absmax for float32; turning back keeps the norm, so
// each value may be off by that times the root of how many are turned together.
at::Tensor bound(KvFormat format, const at::Tensor& x) {
  if (format == KvFormat::kFloat32) return at::zeros_like(x);
  if (format == KvFormat::kBfloat16) return x.abs() * 0x1p-8;
  const kernels::Hadamard hadamard = kernels::make_hadamard(x.size(-1));
  const at::Tensor turned = hadamard.width > 1 ? hadamard_rows(x, hadamard) : x;
  const double spread = std::sqrt(static_cast<double>(std::max<std::int64_t>(hadamard.width, 1)));
  const double step = 1.0 / (format == KvFormat::kInt8 ? 127.5 : 7.5);
  return (turned.abs().amax(-1, true) * (spread * 0.5 * step + 1e-5)).expand_as(x);
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
      const at::Tensor keys = read_back(all, expand_keys), values = read_back(all, expand_values);
      const auto near = [&](const at::Tensor& got, const at::Tensor& want) {
        return ((got - want).abs() <= bound(format, want)).all().item<bool>();
      };
      EXPECT_TRUE(near(keys, key));
      EXPECT_TRUE(near(values, value));
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
    const at::Tensor got = read_back(all, expand_keys);
    EXPECT_EQ(got.size(1), 5);
    // Half a step each at most; turned, ones are one large value, which a code of 7 cuts to 7
    // / 7.5.
    const double sum = 3 * 16 * (3 + 2 * 2);
    EXPECT_NEAR(got.sum().item<double>(), sum, format == KvFormat::kInt4 ? 0.07 * sum : 1.5);
  }
}

// A channel of keys a hundred times as large as the others, as some models have them, does not take
// the others' bits: it is spread over all of them.
TEST(KvCache, OutlierChannelsLeaveTheOthersTheirBits) {
  at::manual_seed(4);
  at::Tensor key = at::randn({3, 40, 64});
  key.select(2, 5).mul_(100.0);
  for (const KvFormat format : {KvFormat::kInt8, KvFormat::kInt4}) {
    KvCache cache(make_config(64), 40, format);
    const at::Tensor got = read_back(cache.append(0, key, key), expand_keys);
    // Without turning a step is about 100 / 127.5 or 100 / 7.5, and the others are rounded by a
    // third of that, or to 0.
    const double error = (got - key).slice(2, 6).square().mean().sqrt().item<double>();
    EXPECT_LT(error, format == KvFormat::kInt8 ? 0.06 : 0.8);
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
  EXPECT_EQ(KvCache(make_config(64), 10, KvFormat::kInt4).bytes(),
            elements / 2 + elements / 64 * 4);
}

TEST(KvCache, NotFiniteStaysNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const KvFormat format : kFormats) {
    for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      KvCache cache(make_config(16), 2, format);
      at::Tensor key = at::ones({3, 2, 16});
      key[1][1][5] = bad;
      const CachedLayer all = cache.append(0, key, at::ones({3, 2, 16}));
      const at::Tensor got = read_back(all, expand_keys);
      EXPECT_FALSE(std::isfinite(got[1][1][5].item<float>()));
      EXPECT_TRUE(got[1][0].isfinite().all().item<bool>());
      EXPECT_TRUE(got[2].isfinite().all().item<bool>());
    }
  }
}

}  // namespace
}  // namespace qvlm
