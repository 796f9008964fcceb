#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/dispatch.h"
#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

QuantizedRows quantize_row(const std::vector<float>& values, int bits = 8, float clip = 1.0f) {
  QuantizedRows result;
  quantize_rows(values.data(), 1, static_cast<std::int64_t>(values.size()), bits, clip, result);
  return result;
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
  const float limit = std::ldexp(1.0f, bits - 1);
  for (std::int64_t k = 0; k < in; ++k) {
    const float code = std::nearbyint(values[k] / scale);
    ASSERT_EQ(codes[k], std::min(std::max(code, -limit), limit - 1.0f)) << values[k] / scale;
  }
}

TEST(QuantizeRows, FollowsTheRule) {
  std::mt19937 random(2);
  for (int bits = 2; bits <= 8; ++bits) {
    for (float clip : {1.0f, 0.9f, 0.35f}) {
      for (std::int64_t in : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 100, 257}) {
        // One float further than an aligned pointer would be.
        const std::vector<float> values = random_floats(3 * in + 1, random);
        QuantizedRows result;
        quantize_rows(values.data() + 1, 3, in, bits, clip, result);
        ASSERT_EQ(result.rows, 3);
        ASSERT_EQ(result.in, in);
        for (std::int64_t row = 0; row < 3; ++row) {
          expect_rule(values.data() + 1 + row * in, in, bits, clip, result.codes.data() + row * in,
                      result.scales[static_cast<std::size_t>(row)]);
        }
      }
    }
  }
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
    quantize_rows(values.data(), 9, 203, bits, 0.8f, here);
    quantize_rows_with(kScalarTable, values.data(), 9, 203, bits, 0.8f, scalar);
    EXPECT_EQ(here.codes, scalar.codes);
    EXPECT_EQ(std::memcmp(here.scales.data(), scalar.scales.data(), 9 * sizeof(float)), 0);
  }
}

TEST(QuantizeRows, NoRowsAreFineAndBadArgumentsAreNot) {
  const float value = 1.0f;
  QuantizedRows result;
  EXPECT_NO_THROW(quantize_rows(nullptr, 0, 8, 8, 1.0f, result));
  EXPECT_TRUE(result.codes.empty());
  EXPECT_THROW(quantize_rows(&value, 1, 0, 8, 1.0f, result), std::invalid_argument);
  EXPECT_THROW(quantize_rows(&value, -1, 1, 8, 1.0f, result), std::invalid_argument);
  EXPECT_THROW(quantize_rows(nullptr, 1, 1, 8, 1.0f, result), std::invalid_argument);
  EXPECT_THROW(quantize_rows(&value, 1, 1, 1, 1.0f, result), std::invalid_argument);
  EXPECT_THROW(quantize_rows(&value, 1, 1, 9, 1.0f, result), std::invalid_argument);
  for (float clip : {0.0f, -1.0f, 1.5f, kNan}) {
    EXPECT_THROW(quantize_rows(&value, 1, 1, 8, clip, result), std::invalid_argument);
  }
}

}  // namespace
}  // namespace qvlm::kernels
