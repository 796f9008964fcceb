// Attention against the formula written out in double, on the rows that the cache gives back.
#include "model/attention.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/parallel.h"
#include "model/cached_rows.h"

namespace qvlm {
namespace {

constexpr KvFormat kFormats[] = {KvFormat::kFloat32, KvFormat::kBfloat16, KvFormat::kInt8,
                                 KvFormat::kInt4};

TextConfig make_config(std::int64_t kv_heads, std::int64_t head_dim, std::int64_t positions) {
  TextConfig config;
  config.layers = 1;
  config.kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.max_positions = positions;
  return config;
}

// The formula, causal, in double: [tokens, heads * head_dim].
at::Tensor exact(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const std::int64_t group = query.size(0) / key.size(0), tokens = query.size(1);
  const at::Tensor keys = key.to(at::kDouble).repeat_interleave(group, 0);
  const at::Tensor values = value.to(at::kDouble).repeat_interleave(group, 0);
  const at::Tensor scores = at::matmul(query.to(at::kDouble), keys.transpose(1, 2)) /
                            std::sqrt(static_cast<double>(query.size(2)));
  const at::Tensor hidden =
      at::ones({tokens, key.size(1)}, at::kBool).triu(key.size(1) - tokens + 1);
  const at::Tensor weights =
      scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1);
  return at::matmul(weights, values).transpose(0, 1).reshape({tokens, -1});
}

// A score is a sum of n = head_dim products in float32, off by at most (n + 2) 2^-24 |q| |k| /
// sqrt(n); a change of all scores by e changes each weight by the factor exp(2 e) at most; the
// exponential adds 2^-22, and the sum over p positions (p + 2) 2^-24, of the largest value, twice:
// in numerator and denominator.
double bound(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const auto n = static_cast<double>(query.size(2)), p = static_cast<double>(key.size(1));
  const auto largest = [](const at::Tensor& x) { return x.abs().max().item<double>(); };
  const double score_error =
      (n + 2) * 0x1p-24 * largest(query.norm(2, -1)) * largest(key.norm(2, -1)) / std::sqrt(n);
  return largest(value) * (2 * score_error + 2 * (0x1p-22 + (p + 2) * 0x1p-24));
}

struct Sample {
  at::Tensor query, key, value;
};

Sample make_sample(std::int64_t heads,
                   std::int64_t kv_heads,
                   std::int64_t tokens,
                   std::int64_t positions,
                   std::int64_t head_dim) {
  at::manual_seed(3);
  return {at::randn({heads, tokens, head_dim}), at::randn({kv_heads, positions, head_dim}),
          at::randn({kv_heads, positions, head_dim})};
}

// Also: a token at a time, a few, and many (with and without positions before them) are one result.
TEST(Attention, EqualsTheFormulaInEveryFormat) {
  for (const KvFormat format : kFormats) {
    for (const std::int64_t group : {1, 3}) {
      for (const std::int64_t head_dim : {37, 64, 80}) {
        for (const std::int64_t tokens : {1, 3, 300, 333}) {
          const Sample s = make_sample(2 * group, 2, tokens, 333, head_dim);
          KvCache cache(make_config(2, head_dim, 333), 333, format);
          const CachedLayer stored = cache.append(0, s.key, s.value);
          const at::Tensor keys = read_back(stored, expand_keys),
                           values = read_back(stored, expand_values);
          const at::Tensor got = cached_attention(s.query, stored);
          const at::Tensor want = exact(s.query, keys, values);
          EXPECT_LE((got - want).abs().max().item<double>(), bound(s.query, keys, values))
              << "format " << static_cast<int>(format) << " group " << group << " head_dim "
              << head_dim << " tokens " << tokens;
        }
      }
    }
  }
}

// Rounding keys by d changes scores by at most e = |q| |d| / sqrt(n), weights by the factor
// exp(2 e), so outputs by (exp(2 e) - 1) * max|v|; rounding values adds their own error.
TEST(Attention, RoundedCachesStayNearFloat) {
  const Sample s = make_sample(4, 4, 1, 200, 64);
  for (const KvFormat format : {KvFormat::kBfloat16, KvFormat::kInt8, KvFormat::kInt4}) {
    KvCache cache(make_config(4, 64, 200), 200, format);
    const CachedLayer stored = cache.append(0, s.key, s.value);
    const at::Tensor key_error = read_back(stored, expand_keys) - s.key;
    const at::Tensor value_error = read_back(stored, expand_values) - s.value;
    const double e =
        s.query.norm(2, -1).max().item<double>() * key_error.norm(2, -1).max().item<double>() / 8.0;
    const double allowed = std::expm1(2 * e) * s.value.abs().max().item<double>() +
                           value_error.abs().max().item<double>() + bound(s.query, s.key, s.value);
    const at::Tensor change = cached_attention(s.query, stored) - exact(s.query, s.key, s.value);
    EXPECT_LE(change.abs().max().item<double>(), allowed);
    EXPECT_GT(change.abs().max().item<double>(), 0.0);
    // Half a step of 15 is 1/30 of the largest, and that is some three times the mean: a tenth;
    // keys and values add up. Eight bits have a 17th of that.
    const double share =
        change.norm().item<double>() / exact(s.query, s.key, s.value).norm().item<double>();
    EXPECT_LT(share, format == KvFormat::kInt4 ? 0.25 : 0.02);
  }
}

TEST(Attention, ThreadsDoNotChangeTheResult) {
  const int threads = thread_count();
  for (const KvFormat format : kFormats) {
    for (const std::int64_t tokens : {1, 300}) {
      const Sample s = make_sample(8, 4, tokens, 600, 64);
      KvCache cache(make_config(4, 64, 600), 600, format);
      const CachedLayer stored = cache.append(0, s.key, s.value);
      set_thread_count(1);
      const at::Tensor one = cached_attention(s.query, stored);
      set_thread_count(2);
      EXPECT_TRUE(at::equal(cached_attention(s.query, stored), one));
    }
  }
  set_thread_count(threads);
}

TEST(Attention, NaNReachesTheTokensThatSeeIt) {
  for (const KvFormat format : kFormats) {
    Sample s = make_sample(4, 2, 3, 50, 16);
    s.key[1][48][0] = std::numeric_limits<float>::quiet_NaN();  // seen by the last two tokens
    KvCache cache(make_config(2, 16, 50), 50, format);
    const at::Tensor mixed = cached_attention(s.query, cache.append(0, s.key, s.value));
    const at::Tensor bad = mixed.reshape({3, 2, 32}).isnan();  // [tokens, kv_heads, ...]
    EXPECT_FALSE(bad[0].any().item<bool>());
    EXPECT_FALSE(bad.select(1, 0).any().item<bool>());
    EXPECT_TRUE(bad[1][1].all().item<bool>());
    EXPECT_TRUE(bad[2][1].all().item<bool>());
  }
}

// Highest resident set since the last reset.
std::int64_t peak_kilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6));
  }
  return -1;
}

// 4096 tokens and heads of 64 take 4 MiB for each of query, keys, values and result; the scores of
// all tokens at once would be 4 * 4096^2 floats = 256 MiB, a whole mask in float 64 MiB. With 512
// positions before the tokens the mask is needed.
TEST(Attention, LongPromptsTakeNoFullScoreMatrix) {
  for (const KvFormat format : kFormats) {
    for (const std::int64_t before : {0, 512}) {
      const Sample s = make_sample(4, 4, 4096 - before, 4096, 64);
      KvCache cache(make_config(4, 64, 4096), 4096, format);
      const CachedLayer stored = cache.append(0, s.key, s.value);
      std::ofstream("/proc/self/clear_refs") << "5";  // resets the peak
      const std::int64_t start = peak_kilobytes();
      const at::Tensor mixed = cached_attention(s.query, stored);
      if (start < 0) GTEST_SKIP() << "no /proc/self/status";
      EXPECT_LT(peak_kilobytes() - start, 40 * 1024) << static_cast<int>(format) << " " << before;
    }
  }
}

}  // namespace
}  // namespace qvlm
