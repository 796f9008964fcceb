#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

QuantizedRows quantize_row(const std::vector<float>& values, int bits = 8, float clip = 1.0f) {
  QuantizedRows result;
  result.resize(1, static_cast<std::int64_t>(values.size()), 0);
  quantize_rows(values.data(), {bits, clip}, 0, 1, result);
  result.codes.resize(values.size());  // without the padding, for tests to compare
  return result;
}

void expect_codes(
    const float* values, std::int64_t in, int bits, const std::int8_t* codes, float scale) {
  const float limit = std::ldexp(1.0f, bits - 1);
  for (std::int64_t k = 0; k < in; ++k) {
    const float code = std::nearbyint(values[k] / scale);
    ASSERT_EQ(codes[k], std::min(std::max(code, -limit), limit - 1.0f)) << values[k] / scale;
  }
}

// The rule of qvlm/kernels.h for a row of finite values.
void expect_rule(const float* values,
                 std::int64_t in,
                 int bits,
                 float clip,
                 const std::int8_t* codes,
                 float scale) {
  float absmax = 0.0f;
  for (std::int64_t k = 0; k < in; ++k) {
    absmax = std::max(absmax, std::fabs(values[k]));
  }
  float expected_scale = clip * absmax / (static_cast<float>((1 << bits) - 1) / 2.0f);
  if (expected_scale == 0.0f) expected_scale = 1.0f;
  ASSERT_EQ(scale, expected_scale);
  expect_codes(values, in, bits, codes, scale);
}

TEST(QuantizeRows, TiesGoToEven) {
  // absmax 127.5 gives scale 1 at 8 bits.
  const QuantizedRows result =
      quantize_row({127.5f, -127.5f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f});
  EXPECT_EQ(result.scales[0], 1.0f);
  EXPECT_EQ(result.codes, (std::vector<std::int8_t>{127, -128, 0, 2, 2, 0, -2, -2, 126, -126}));
}

TEST(QuantizeRows, DividesRatherThanMultipliesByAReciprocal) {
  // Quotients that are ties exactly. 1 / 49 is rounded, and 49 * 1.5 times that is just below 1.5.
  for (float scale : {41.0f, 47.0f, 49.0f, 55.0f, 61.0f, 83.0f}) {
    std::vector<float> values = {127.5f * scale};
    for (int i = -127; i < 127; ++i) {
      values.push_back((static_cast<float>(i) + 0.5f) * scale);
    }
    const QuantizedRows result = quantize_row(values);
    ASSERT_EQ(result.scales[0], scale);
    for (int i = -127; i < 127; ++i) {
      const int even = i % 2 == 0 ? i : i + 1;
      ASSERT_EQ(result.codes[static_cast<std::size_t>(i + 128)], even) << i << ".5 * " << scale;
    }
  }
}

TEST(QuantizeRows, ExtremeMagnitudes) {
  const float largest = std::numeric_limits<float>::max();
  const float denormal = std::numeric_limits<float>::denorm_min();
  for (const std::vector<float>& values : {std::vector<float>{largest, -largest, 1.0f},
                                           {1000 * denormal, -3 * denormal, 0.0f},
                                           {200 * denormal, -150 * denormal, denormal},
                                           {1e-38f, -1e-40f, 3e-39f}}) {
    const QuantizedRows result = quantize_row(values);
    expect_rule(values.data(), 3, 8, 1.0f, result.codes.data(), result.scales[0]);
  }
}

TEST(QuantizeRows, ZeroAndUnderflowingRowsGetScaleOne) {
  for (float value : {0.0f, -0.0f, std::numeric_limits<float>::denorm_min()}) {
    const QuantizedRows result = quantize_row(std::vector<float>(19, value));
    EXPECT_EQ(result.scales[0], 1.0f);
    EXPECT_EQ(result.codes, std::vector<std::int8_t>(19, 0));
  }
}

TEST(QuantizeRows, NotANumberAndInfinityAreNotHidden) {
  for (float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    for (std::size_t place : {0u, 5u, 8u, 16u, 18u}) {
      std::vector<float> values(19, 1.0f);
      values[place] = bad;
      const QuantizedRows result = quantize_row(values);
      EXPECT_TRUE(std::isnan(result.scales[0])) << bad << " at " << place;
      EXPECT_EQ(result.codes, std::vector<std::int8_t>(19, 0));
    }
  }
}

TEST(QuantizeRows, EqualsTheScalarLevelBitForBit) {
  std::mt19937 random(3);
  std::vector<float> values = random_floats(9 * 203, random);
  values[400] = kNan;
  values[800] = kInfinity;
  for (int bits = 2; bits <= 8; ++bits) {
    QuantizedRows here, scalar;
    here.resize(9, 203, 24);
    scalar.resize(9, 203, 24);
    quantize_rows(values.data(), {bits, 0.8f}, 0, 9, here);
    quantize_rows_with(kernel_table(CpuLevel::kScalar), values.data(), {bits, 0.8f}, 0, 9, scalar);
    EXPECT_EQ(here.codes, scalar.codes);
    EXPECT_EQ(here.sums, scalar.sums);
    EXPECT_EQ(std::memcmp(here.scales.data(), scalar.scales.data(), 9 * sizeof(float)), 0);
  }
}

TEST(QuantizeRows, SumsAreThoseOfEachGroupAndPaddingIsZero) {
  std::mt19937 random(4);
  for (std::int64_t in : {1, 7, 8, 63, 64, 65, 128, 200, 333}) {
    for (std::int64_t group_size : {0, 8, 24, 32, 64, 128}) {
      const std::vector<float> values = random_floats(2 * in, random);
      QuantizedRows rows;
      rows.resize(2, in, group_size);
      rows.codes.assign(rows.codes.size(), 99);
      quantize_rows(values.data(), {}, 0, 2, rows);
      std::vector<std::int8_t> codes;
      for (std::int64_t m = 0; m < 2; ++m) {
        for (std::int64_t k = 0; k < row_stride(in); ++k) {
          const std::int8_t code = rows.codes[static_cast<std::size_t>(m * row_stride(in) + k)];
          if (k < in) {
            codes.push_back(code);
          } else {
            ASSERT_EQ(code, 0) << in << " at " << k;
          }
        }
      }
      EXPECT_EQ(rows.sums, make_rows(codes, rows.scales, in, group_size).sums);
    }
  }
}

TEST(QuantizeRows, AStaticScaleIsTakenAsItIs) {
  std::mt19937 random(5);
  const std::vector<float> values = random_floats(100, random);
  QuantizedRows rows;
  rows.resize(1, 100, 0);
  quantize_rows(values.data(), {8, 1.0f, 0.004f}, 0, 1, rows);
  expect_codes(values.data(), 100, 8, rows.codes.data(), 0.004f);
  EXPECT_EQ(rows.scales[0], 0.004f);
}

TEST(QuantizeRows, NoRowsAreFineAndBadArgumentsAreNot) {
  const float value = 1.0f;
  QuantizedRows result;
  EXPECT_THROW(result.resize(1, 0, 0), std::invalid_argument);
  EXPECT_THROW(result.resize(-1, 1, 0), std::invalid_argument);
  EXPECT_THROW(result.resize(1, 1, 7), std::invalid_argument);
  result.resize(0, 8, 0);
  EXPECT_NO_THROW(quantize_rows(nullptr, {}, 0, 0, result));
  result.resize(1, 1, 0);
  EXPECT_THROW(quantize_rows(&value, {}, 0, 2, result), std::invalid_argument);
  EXPECT_THROW(quantize_rows(&value, {}, -1, 1, result), std::invalid_argument);
  EXPECT_THROW(quantize_rows(nullptr, {}, 0, 1, result), std::invalid_argument);
  for (int bits : {1, 9}) {
    EXPECT_THROW(quantize_rows(&value, {bits}, 0, 1, result), std::invalid_argument);
  }
  for (float clip : {0.0f, -1.0f, 1.5f, kNan}) {
    EXPECT_THROW(quantize_rows(&value, {8, clip}, 0, 1, result), std::invalid_argument);
  }
  for (float scale : {-1.0f, kNan, kInfinity}) {
    EXPECT_THROW(quantize_rows(&value, {8, 1.0f, scale}, 0, 1, result), std::invalid_argument);
  }
}

// Ties go to even; what is too large for bfloat16 becomes infinity; NaN stays NaN.
std::uint16_t rounded(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  const std::uint32_t rest = bits & 0xffff;
  const bool up = rest > 0x8000 || (rest == 0x8000 && (bits & 0x10000) != 0);
  return static_cast<std::uint16_t>((bits >> 16) + (up ? 1 : 0));
}

TEST(RoundRows, RoundsReordersAndAddsUp) {
  std::mt19937 random(6);
  constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  for (std::int64_t in : {1, 7, 8, 9, 64, 65, 100}) {
    std::vector<float> values = random_floats(in, random);
    if (in > 8) values[3] = std::bit_cast<float>(0x3f808000u);  // ties, the second goes up
    if (in > 8) values[4] = std::bit_cast<float>(0x3f818000u);
    Bf16Rows rows;
    rows.resize(1, in, 32);
    round_rows(values.data(), 0, 1, rows);
    for (std::int64_t k = 0; k < row_stride(in); ++k) {
      const std::int64_t from = k / 8 * 8 + kOrder[k % 8];
      const std::uint16_t expected =
          from < in ? rounded(values[static_cast<std::size_t>(from)]) : std::uint16_t{0};
      ASSERT_EQ(rows.values[static_cast<std::size_t>(k)], expected) << in << " at " << k;
    }
    for (std::size_t group = 0; group < rows.sums.size(); ++group) {
      double sum = 0.0, size = 0.0;
      for (std::size_t k = 32 * group; k < std::min<std::size_t>(values.size(), 32 * (group + 1));
           ++k) {
        const float value =
            std::bit_cast<float>(static_cast<std::uint32_t>(rounded(values[k])) << 16);
        sum += value;
        size += std::fabs(value);
      }
      // Five additions one after the other: four in a lane and its share of the last three.
      EXPECT_NEAR(rows.sums[group], sum, 8 * 6e-8 * size);
    }
  }
  for (float bad : {kNan, -kNan, kInfinity, -kInfinity, std::numeric_limits<float>::max()}) {
    Bf16Rows rows;
    rows.resize(1, 1, 0);
    round_rows(&bad, 0, 1, rows);
    EXPECT_EQ(rows.values[0], rounded(bad));
  }
}

}  // namespace
}  // namespace qvlm::kernels
