// Decode attention of the running level against the formula written out in double.
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace qvlm::kernels {
namespace {

// Rows in one format, and the numbers they stand for.
struct Rows {
  std::vector<float> values;
  std::vector<std::uint16_t> bf16;
  std::vector<std::int8_t> codes;
  std::vector<CodePair> pairs;  // of the codes' lowest four bits
  std::vector<float> scales;
};

enum Format { kFloat32, kBfloat16, kInt8, kInt4 };

Rows make_rows(Format format, std::int64_t positions, std::int64_t stride, std::mt19937& random) {
  std::normal_distribution<float> normal;
  Rows rows;
  for (std::int64_t p = 0; p < positions; ++p) {
    rows.scales.push_back(0.001f + 0.02f * std::abs(normal(random)));
    for (std::int64_t k = 0; k < stride; ++k) {
      float value = normal(random);
      const std::uint16_t high =
          static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, value) >> 16);
      const auto code = static_cast<std::int8_t>(static_cast<int>(random() % 256) - 128);
      if (format == kBfloat16)
        value = __builtin_bit_cast(float, static_cast<std::uint32_t>(high) << 16);
      if (format == kInt8) value = static_cast<float>(code) * rows.scales.back();
      const auto nibble = static_cast<std::uint8_t>(code & 15);
      if (format == kInt4) value = static_cast<float>(nibble - 8) * 10.0f * rows.scales.back();
      if (k % 2 == 0) rows.pairs.push_back({nibble});
      if (k % 2 == 1) rows.pairs.back().bits |= static_cast<std::uint8_t>(nibble << 4);
      rows.values.push_back(value);
      rows.bf16.push_back(high);
      rows.codes.push_back(code);
    }
    if (format == kInt4) rows.scales.back() *= 10.0f;  // as its codes are that much smaller
  }
  return rows;
}

CachedRows view(Format format, const Rows& rows) {
  if (format == kInt8) return {rows.codes.data(), rows.scales.data()};
  if (format == kInt4) return {rows.pairs.data(), rows.scales.data()};
  if (format == kBfloat16) return {rows.bf16.data(), nullptr};
  return {rows.values.data(), nullptr};
}

std::vector<float> run(Format format,
                       const Rows& keys,
                       const Rows& values,
                       const std::vector<float>& query,
                       std::int64_t positions,
                       std::int64_t stride) {
  const auto queries = static_cast<std::int64_t>(query.size()) / stride;
  const std::int64_t score_stride = (positions + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  std::vector<float> scores(static_cast<std::size_t>(queries * score_stride));
  std::vector<float> out(query.size());
  const AttentionKernels& kernels = attention_kernels(cpu_level());
  const auto kernel = format == kFloat32    ? kernels.float32
                      : format == kBfloat16 ? kernels.bfloat16
                      : format == kInt8     ? kernels.int8
                                            : kernels.int4;
  kernel({view(format, keys), view(format, values), positions, stride, query.data(), queries,
          scores.data(), score_stride, out.data()});
  return out;
}

// The formula for one query, in double, and the bound of tests/model/attention_test.cc: scores off
// by (n + 2) 2^-24 of the sum of magnitudes, weights by twice that, the exponential by 2^-22, sums
// over p positions by (p + 2) 2^-24, the last two in numerator and denominator.
void expect_formula(const Rows& keys,
                    const Rows& values,
                    const float* query,
                    const float* got,
                    std::int64_t positions,
                    std::int64_t stride) {
  std::vector<double> scores;
  double score_error = 0.0, largest = 0.0;
  for (std::int64_t p = 0; p < positions; ++p) {
    double score = 0.0, magnitude = 0.0;
    for (std::int64_t k = 0; k < stride; ++k) {
      const double product =
          double{query[k]} * double{keys.values[static_cast<std::size_t>(p * stride + k)]};
      score += product;
      magnitude += std::abs(product);
    }
    scores.push_back(score);
    score_error = std::max(score_error, magnitude * static_cast<double>(stride + 2) * 0x1p-24);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (double& score : scores)
    sum += score = std::exp(score - top);
  for (const float value : values.values)
    largest = std::max(largest, std::abs(double{value}));
  const double bound =
      largest * (2 * score_error + 2 * (0x1p-22 + static_cast<double>(positions + 2) * 0x1p-24));
  for (std::int64_t k = 0; k < stride; ++k) {
    double want = 0.0;
    for (std::int64_t p = 0; p < positions; ++p)
      want += scores[static_cast<std::size_t>(p)] / sum *
              double{values.values[static_cast<std::size_t>(p * stride + k)]};
    ASSERT_NEAR(got[k], want, bound) << "positions " << positions << " stride " << stride;
  }
}

TEST(Attention, EqualsTheFormula) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const Format format : {kFloat32, kBfloat16, kInt8, kInt4}) {
    for (const std::int64_t positions : {1, 2, 5, 31, 32, 33, 100, 700}) {
      for (const std::int64_t stride : {16, 48, 64, 80, 128}) {
        const Rows keys = make_rows(format, positions, stride, random);
        const Rows values = make_rows(format, positions, stride, random);
        for (const std::int64_t queries : {1, 2, 3, 4, 7, 8}) {
          std::vector<float> query(static_cast<std::size_t>(queries * stride));
          for (float& x : query)
            x = normal(random) / std::sqrt(static_cast<float>(stride));
          const std::vector<float> got = run(format, keys, values, query, positions, stride);
          for (std::int64_t i = 0; i < queries; ++i)
            expect_formula(keys, values, query.data() + i * stride, got.data() + i * stride,
                           positions, stride);
        }
      }
    }
  }
}

// Scores far apart leave one position; equal ones give the mean.
TEST(Attention, ExtremeScores) {
  std::mt19937 random(6);
  Rows keys = make_rows(kFloat32, 40, 16, random);
  const Rows values = make_rows(kFloat32, 40, 16, random);
  std::fill(keys.values.begin(), keys.values.end(), 0.0f);
  keys.values[17 * 16] = 1e30f;
  std::vector<float> query(16, 1e6f);
  std::vector<float> got = run(kFloat32, keys, values, query, 40, 16);
  EXPECT_TRUE(std::equal(got.begin(), got.end(), values.values.begin() + 17 * 16));
  query.assign(16, 0.0f);
  got = run(kFloat32, keys, values, query, 40, 16);
  expect_formula(keys, values, query.data(), got.data(), 40, 16);
}

TEST(Attention, NaNIsNotLost) {
  std::mt19937 random(7);
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t bad : {0, 1, 39}) {
    Rows keys = make_rows(kInt8, 40, 16, random);
    const Rows values = make_rows(kInt8, 40, 16, random);
    keys.scales[static_cast<std::size_t>(bad)] = kNaN;
    for (const float x : run(kInt8, keys, values, std::vector<float>(16, 0.1f), 40, 16))
      EXPECT_TRUE(std::isnan(x));
  }
}

}  // namespace
}  // namespace qvlm::kernels
