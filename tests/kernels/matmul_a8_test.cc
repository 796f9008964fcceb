#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// One format at shapes around the sizes of tiles, panels and steps.
void compare_small_shapes(const WeightFormat& format) {
  std::mt19937 random(static_cast<unsigned>(100 * format.bits + format.group_size));
  for (std::int64_t out : {1, 15, 16, 17, 63, 64, 65, 129}) {
    for (std::int64_t in :
         {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 63, 65, 127, 136, 200}) {
      const LinearCase linear = random_linear(out, in, format, random);
      const PackedWeights packed = linear.pack();
      const std::vector<float> bias = random_floats(out, random);
      for (std::int64_t count : {1, 2, 3, 4, 5, 6, 7, 13, 25}) {
        const QuantizedRows rows = random_rows(count, in, format.group_size, random);
        const float* added = random() % 2 == 0 ? bias.data() : nullptr;
        ASSERT_TRUE(same_bits(product(packed, rows, added), naive_product(linear, rows, added)))
            << "rows " << count << ", out " << out << ", in " << in << ", bits " << format.bits
            << ", group " << format.group_size << ", symmetric " << format.symmetric;
      }
    }
  }
}

class MatmulFormat : public testing::TestWithParam<WeightFormat> {};

TEST_P(MatmulFormat, EqualsTheFormula) {
  compare_small_shapes(GetParam());
}

std::vector<WeightFormat> all_formats() {
  std::vector<WeightFormat> formats;
  for (int bits : {4, 8}) {
    for (std::int64_t group_size : {0, 8, 32, 64, 128}) {
      for (bool symmetric : {true, false}) {
        formats.push_back({bits, group_size, symmetric});
      }
    }
  }
  return formats;
}

std::string format_name(const testing::TestParamInfo<WeightFormat>& format) {
  return "w" + std::to_string(format.param.bits) + "g" + std::to_string(format.param.group_size) +
         (format.param.symmetric ? "" : "asymmetric");
}

INSTANTIATE_TEST_SUITE_P(All, MatmulFormat, testing::ValuesIn(all_formats()), format_name);

TEST(Matmul, OddBitWidths) {
  std::mt19937 random(4);
  for (int bits : {2, 3, 5, 6, 7}) {
    for (std::int64_t group_size : {0, 32}) {
      const LinearCase linear = random_linear(70, 77, {bits, group_size, bits % 2 == 0}, random);
      const QuantizedRows rows = random_rows(5, 77, group_size, random);
      EXPECT_TRUE(same_bits(product(linear.pack(), rows), naive_product(linear, rows, nullptr)));
    }
  }
}

TEST(Matmul, EqualsTheScalarLevelAtModelShapes) {
  std::mt19937 random(5);
  const KernelTable& scalar = kernel_table(CpuLevel::kScalar);
  for (const WeightFormat& format : all_formats()) {
    const PackedWeights weights = random_linear(200, 520, format, random).pack();
    for (std::int64_t count : {1, 8, 37, 64}) {
      const QuantizedRows rows = random_rows(count, 520, format.group_size, random);
      std::vector<float> expected(static_cast<std::size_t>(count) * 200);
      matmul_with(scalar, weights, rows, 0, 200, output_to(expected, 200));
      EXPECT_TRUE(same_bits(product(weights, rows), expected)) << format.bits << " bits";
    }
  }
}

// Extreme codes with nothing that cancels: where a 16-bit step would saturate or a sum overflow.
// zero_point: subtracted from the weight; 0 makes a symmetric one.
struct ConstantCase {
  int bits = 8;
  std::int64_t in = 1;
  int weight = 0, zero_point = 0, activation = 0;
};

void compare_constant(const ConstantCase& c) {
  const std::size_t count = c.in > 10000 ? 1 : 26;
  const std::int64_t out = c.in > 10000 ? 2 : 65;
  LinearCase linear{out, c.in, {c.bits, 0, c.zero_point == 0}, {}, {}, {}};
  linear.codes.assign(static_cast<std::size_t>(out * c.in), static_cast<std::int8_t>(c.weight));
  linear.scales.assign(static_cast<std::size_t>(out), 0.5f);
  if (c.zero_point != 0) {
    linear.zero_points.assign(static_cast<std::size_t>(out),
                              static_cast<std::int8_t>(c.zero_point));
  }
  const std::vector<std::int8_t> codes(count * static_cast<std::size_t>(c.in),
                                       static_cast<std::int8_t>(c.activation));
  const QuantizedRows rows = make_rows(codes, std::vector<float>(count, 2.0f), c.in, 0);
  const float expected = static_cast<float>(c.in * (c.weight - c.zero_point) * c.activation);
  for (float value : product(linear.pack(), rows)) {
    ASSERT_EQ(value, expected) << c.bits << " bits, in " << c.in << ": (" << c.weight << " - "
                               << c.zero_point << ") * " << c.activation;
  }
}

TEST(Matmul, ExtremeCodes) {
  for (std::int64_t in : {1, 8, 33, 1000, 65793}) {
    for (int activation : {-128, -127, 127}) {
      for (int zero_point : {0, -128, 127}) {
        compare_constant({8, in, -128, zero_point, activation});
        compare_constant({8, in, 127, zero_point, activation});
      }
      for (int zero_point : {0, -8, 7}) {
        compare_constant({4, in, -8, zero_point, activation});
        compare_constant({4, in, 7, zero_point, activation});
      }
    }
  }
}

// The longest rows whose sums fit 32 bits (layout.cc): one code more is refused.
TEST(Matmul, LongestSums) {
  for (int activation : {-128, 127}) {
    compare_constant({8, 131071, -128, 0, activation});
    compare_constant({8, 65793, -128, 127, activation});
    compare_constant({4, (1 << 21) - 1, -8, 0, activation});
    compare_constant({4, ((std::int64_t{1} << 31) - 1) / (128 * 15), -8, 7, activation});
  }
  EXPECT_THROW(compare_constant({8, 131072, -128, 0, -128}), std::invalid_argument);
  EXPECT_THROW(compare_constant({8, 65794, -128, 127, -128}), std::invalid_argument);
}

TEST(Matmul, AnySplitOfColumnsGivesTheSameBitsAndTouchesNothingElse) {
  std::mt19937 random(6);
  for (int bits : {4, 8}) {
    const PackedWeights weights = random_linear(150, 70, {bits, 32, bits == 4}, random).pack();
    const QuantizedRows rows = random_rows(5, 70, 32, random);
    const std::vector<float> bias = random_floats(150, random);
    const std::vector<float> whole = product(weights, rows, bias.data());
    constexpr std::int64_t kStride = 157;
    for (std::int64_t begin = 0; begin <= 150; begin += 1 + begin % 7) {
      for (std::int64_t end = begin; end <= 150; end += 1 + end % 5) {
        std::vector<float> out(1 + 5 * kStride, -7.0f);
        Output output = output_to(out, kStride, bias.data());
        output.values += 1;  // one float further than an aligned pointer would be
        matmul(weights, rows, begin, end, output);
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
  for (std::int64_t group_size : {0, 32}) {
    const PackedWeights weights = random_linear(64, 96, {4, group_size, true}, random).pack();
    const std::vector<std::int8_t> codes = random_codes(53 * 96, 8, random);
    const std::vector<float> scales = random_floats(53, random);
    const std::vector<float> whole = product(weights, make_rows(codes, scales, 96, group_size));
    for (std::size_t m = 0; m < 53; ++m) {
      const std::vector<std::int8_t> row(codes.begin() + static_cast<int>(m) * 96,
                                         codes.begin() + static_cast<int>(m + 1) * 96);
      const std::vector<float> one = product(weights, make_rows(row, {scales[m]}, 96, group_size));
      EXPECT_EQ(std::memcmp(one.data(), whole.data() + m * 64, 64 * 4), 0);
    }
  }
}

TEST(Matmul, NotANumberStaysInItsRow) {
  std::mt19937 random(8);
  std::vector<float> values = random_floats(3 * 40, random);
  values[50] = std::numeric_limits<float>::quiet_NaN();
  QuantizedRows rows;
  rows.resize(3, 40, 0);
  quantize_rows(values.data(), {}, 0, 3, rows);
  const std::vector<float> out = product(random_linear(20, 40, {}, random).pack(), rows);
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(std::isnan(out[i]), i / 20 == 1);
  }
}

TEST(Matmul, NothingToDoIsFineAndBadArgumentsAreNot) {
  std::mt19937 random(9);
  const PackedWeights weights = random_linear(20, 40, {}, random).pack();
  const QuantizedRows rows = random_rows(2, 40, 0, random);
  std::vector<float> out(40, -7.0f);
  const Output good = output_to(out, 20);
  EXPECT_NO_THROW(matmul(weights, random_rows(0, 40, 0, random), 0, 20, {}));
  EXPECT_NO_THROW(matmul(weights, rows, 5, 5, good));
  EXPECT_EQ(out, std::vector<float>(40, -7.0f));
  const auto expect_refused = [&](const PackedWeights& w, const QuantizedRows& r, int begin,
                                  int end, const Output& to) {
    EXPECT_THROW(matmul(w, r, begin, end, to), std::invalid_argument);
  };
  expect_refused(weights, rows, -1, 20, good);
  expect_refused(weights, rows, 0, 21, output_to(out, 21));
  expect_refused(weights, rows, 7, 6, good);
  expect_refused(weights, rows, 0, 20, output_to(out, 19));
  expect_refused(weights, rows, 0, 20, {});
  expect_refused(weights, random_rows(2, 41, 0, random), 0, 20, good);
  expect_refused(weights, random_rows(2, 40, 8, random), 0, 20, good);
  expect_refused({}, rows, 0, 0, good);
  QuantizedRows broken = rows;
  broken.sums.pop_back();
  expect_refused(weights, broken, 0, 20, good);
  std::vector<std::uint16_t> halves(40);
  Output both = good;
  both.bf16 = halves.data();
  expect_refused(weights, rows, 0, 20, both);
  Output alone = good;
  alone.combine = Combine::kAdd;
  expect_refused(weights, rows, 0, 20, alone);
}

}  // namespace
}  // namespace qvlm::kernels
