#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/dispatch.h"
#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

std::vector<float> product(const PackedWeights& weights,
                           const QuantizedRows& rows,
                           const float* bias = nullptr) {
  std::vector<float> out(static_cast<std::size_t>(rows.rows * weights.out));
  matmul(weights, rows, bias, 0, weights.out, out.data(), weights.out);
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// All inputs of one group scheme, at shapes around the sizes of tiles, panels and steps.
void compare_small_shapes(int bits, std::int64_t group_size) {
  std::mt19937 random(static_cast<unsigned>(100 * bits + group_size));
  for (std::int64_t out : {1, 15, 16, 17, 63, 64, 65, 129}) {
    for (std::int64_t in :
         {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 63, 65, 127, 136, 200}) {
      const PlainWeights plain = random_weights(out, in, bits, group_size, random);
      const PackedWeights packed = plain.pack();
      const std::vector<float> bias = random_floats(out, random);
      for (std::int64_t count : {1, 2, 3, 4, 5, 6, 7, 13}) {
        const QuantizedRows rows = random_rows(count, in, random);
        const float* added = random() % 2 == 0 ? bias.data() : nullptr;
        ASSERT_TRUE(same_bits(product(packed, rows, added), naive_product(plain, rows, added)))
            << "rows " << count << ", out " << out << ", in " << in << ", bits " << bits
            << ", group " << group_size;
      }
    }
  }
}

TEST(Matmul, EqualsTheFormulaPerChannel8Bits) {
  compare_small_shapes(8, 0);
}
TEST(Matmul, EqualsTheFormulaPerChannel4Bits) {
  compare_small_shapes(4, 0);
}

TEST(Matmul, EqualsTheFormulaPerGroup8Bits) {
  for (std::int64_t group_size : {8, 32, 64, 128}) {
    compare_small_shapes(8, group_size);
  }
}

TEST(Matmul, EqualsTheFormulaPerGroup4Bits) {
  for (std::int64_t group_size : {8, 32, 64, 128}) {
    compare_small_shapes(4, group_size);
  }
}

TEST(Matmul, OddBitWidths) {
  std::mt19937 random(4);
  for (int bits : {2, 3, 5, 6, 7}) {
    for (std::int64_t group_size : {0, 32}) {
      const PlainWeights plain = random_weights(70, 77, bits, group_size, random);
      const QuantizedRows rows = random_rows(5, 77, random);
      EXPECT_TRUE(same_bits(product(plain.pack(), rows), naive_product(plain, rows, nullptr)));
    }
  }
}

TEST(Matmul, EqualsTheScalarLevelAtModelShapes) {
  std::mt19937 random(5);
  for (int bits : {4, 8}) {
    for (std::int64_t group_size : {0, 128}) {
      const PackedWeights weights = random_weights(200, 520, bits, group_size, random).pack();
      const QuantizedRows rows = random_rows(37, 520, random);
      std::vector<float> scalar(37 * 200);
      matmul_with(kScalarTable, weights, rows, nullptr, 0, 200, scalar.data(), 200);
      EXPECT_TRUE(same_bits(product(weights, rows), scalar)) << bits << " bits";
    }
  }
}

// Extreme codes with nothing that cancels: where a 16-bit step would saturate or a sum overflow.
void compare_constant(int bits, std::int64_t in, int weight, int activation) {
  const std::int64_t rows_count = in > 10000 ? 1 : 7;
  const std::int64_t out = in > 10000 ? 2 : 65;
  PlainWeights plain{out, in, bits, 0, {}, std::vector<float>(static_cast<std::size_t>(out), 0.5f)};
  plain.codes.assign(static_cast<std::size_t>(out * in), static_cast<std::int8_t>(weight));
  QuantizedRows rows{rows_count, in, {}, {}};
  rows.codes.assign(static_cast<std::size_t>(rows_count * in),
                    static_cast<std::int8_t>(activation));
  rows.scales.assign(static_cast<std::size_t>(rows_count), 2.0f);
  const float expected = static_cast<float>(in * weight * activation);
  for (float value : product(plain.pack(), rows)) {
    ASSERT_EQ(value, expected) << bits << " bits, in " << in << ": " << weight << " * "
                               << activation;
  }
}

TEST(Matmul, ExtremeCodes) {
  for (std::int64_t in : {1, 8, 33, 1000, 131071}) {
    for (int activation : {-128, -127, 127}) {
      compare_constant(8, in, -128, activation);
      compare_constant(8, in, 127, activation);
      compare_constant(4, in, -8, activation);
      compare_constant(4, in, 7, activation);
    }
  }
}

TEST(Matmul, LongestSumOf4Bits) {
  compare_constant(4, (1 << 21) - 1, -8, -128);
}

TEST(Matmul, AnySplitOfColumnsGivesTheSameBitsAndTouchesNothingElse) {
  std::mt19937 random(6);
  for (int bits : {4, 8}) {
    const PackedWeights weights = random_weights(150, 70, bits, 32, random).pack();
    const QuantizedRows rows = random_rows(5, 70, random);
    const std::vector<float> bias = random_floats(150, random);
    const std::vector<float> whole = product(weights, rows, bias.data());
    constexpr std::int64_t kStride = 157;
    for (std::int64_t begin = 0; begin <= 150; begin += 1 + begin % 7) {
      for (std::int64_t end = begin; end <= 150; end += 1 + end % 5) {
        std::vector<float> out(1 + 5 * kStride, -7.0f);
        // One float further than an aligned pointer would be.
        matmul(weights, rows, bias.data(), begin, end, out.data() + 1, kStride);
        ASSERT_EQ(out[0], -7.0f);
        for (std::int64_t m = 0; m < 5; ++m) {
          for (std::int64_t n = 0; n < kStride; ++n) {
            const bool inside = begin <= n && n < end;
            const float expected = inside ? whole[static_cast<std::size_t>(m * 150 + n)] : -7.0f;
            ASSERT_EQ(out[static_cast<std::size_t>(1 + m * kStride + n)], expected)
                << begin << " to " << end << " at " << m << ", " << n;
          }
        }
      }
    }
  }
}

TEST(Matmul, RowsDoNotDependOnTheirBatch) {
  std::mt19937 random(7);
  const PackedWeights weights = random_weights(64, 96, 4, 0, random).pack();
  const QuantizedRows all = random_rows(23, 96, random);
  const std::vector<float> whole = product(weights, all);
  for (std::size_t m = 0; m < 23; ++m) {
    const QuantizedRows one{1,
                            96,
                            {all.codes.begin() + static_cast<int>(m) * 96,
                             all.codes.begin() + static_cast<int>(m + 1) * 96},
                            {all.scales[m]}};
    EXPECT_EQ(std::memcmp(product(weights, one).data(), whole.data() + m * 64, 64 * 4), 0);
  }
}

TEST(Matmul, NotANumberStaysInItsRow) {
  std::mt19937 random(8);
  std::vector<float> values = random_floats(3 * 40, random);
  values[50] = std::numeric_limits<float>::quiet_NaN();
  QuantizedRows rows;
  quantize_rows(values.data(), 3, 40, 8, 1.0f, rows);
  const std::vector<float> out = product(random_weights(20, 40, 8, 0, random).pack(), rows);
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(std::isnan(out[i]), i / 20 == 1);
  }
}

TEST(Matmul, NothingToDoIsFineAndBadArgumentsAreNot) {
  std::mt19937 random(9);
  const PackedWeights weights = random_weights(20, 40, 8, 0, random).pack();
  const QuantizedRows rows = random_rows(2, 40, random);
  std::vector<float> out(40, -7.0f);
  EXPECT_NO_THROW(matmul(weights, {0, 40, {}, {}}, nullptr, 0, 20, nullptr, 20));
  EXPECT_NO_THROW(matmul(weights, rows, nullptr, 5, 5, out.data(), 20));
  EXPECT_EQ(out, std::vector<float>(40, -7.0f));
  const auto expect_refused = [&](const PackedWeights& w, const QuantizedRows& r, int begin,
                                  int end, float* to, int stride) {
    EXPECT_THROW(matmul(w, r, nullptr, begin, end, to, stride), std::invalid_argument);
  };
  expect_refused(weights, rows, -1, 20, out.data(), 20);
  expect_refused(weights, rows, 0, 21, out.data(), 21);
  expect_refused(weights, rows, 7, 6, out.data(), 20);
  expect_refused(weights, rows, 0, 20, out.data(), 19);
  expect_refused(weights, rows, 0, 20, nullptr, 20);
  expect_refused(weights, random_rows(2, 41, random), 0, 20, out.data(), 20);
  expect_refused(weights, {2, 40, rows.codes, {1.0f}}, 0, 20, out.data(), 20);
  expect_refused({}, rows, 0, 0, out.data(), 20);
}

}  // namespace
}  // namespace qvlm::kernels
