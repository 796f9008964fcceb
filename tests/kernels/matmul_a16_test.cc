// Products with bfloat16 activations against double precision.
//
// The bound. A weight code less its zero is a whole number of at most 9 bits and an activation has
// 8, so products are exact in float32, and every error is one of an addition: at most 2^-24 of the
// partial sum, which is at most S = sum over k of |activation| (|code| + |zero point|) |scale|. A
// column takes `in` additions, as many again in the sum of the activations that zero points are
// multiplied with, and 4 for each group. vdpbf16ps rounds to nearest even after each addition of a
// pair and so adds no more of them, but it takes numbers below 2^-126 for zero and returns none:
// one flushed operand changes a sum by less than 2^-126 * 2^9 |scale|.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

float to_float(std::uint16_t bf16) {
  const std::uint32_t bits = static_cast<std::uint32_t>(bf16) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The value of input k of a row as the kernels see it.
float activation(const Bf16Rows& rows, std::int64_t row, std::int64_t k) {
  constexpr std::int64_t kPlaces[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  return to_float(rows.values[static_cast<std::size_t>(row * row_stride(rows.in) + k / 8 * 8 +
                                                       kPlaces[k % 8])]);
}

struct Exact {
  double value = 0, bound = 0;
};

Exact exact_product(const LinearCase& linear,
                    const Bf16Rows& rows,
                    std::int64_t row,
                    std::int64_t column) {
  const std::int64_t group_size = linear.format.group_size == 0 ? linear.in : rows.group_size;
  double value = 0, magnitude = 0, scales = 0;
  for (std::int64_t k = 0; k < linear.in; ++k) {
    const auto place = static_cast<std::size_t>(column * linear.groups() + k / group_size);
    const double zero = linear.zero_points.empty() ? 0 : linear.zero_points[place];
    const double code = linear.codes[static_cast<std::size_t>(column * linear.in + k)];
    const double scale = linear.scales[place];
    const double x = activation(rows, row, k);
    value += x * (code - zero) * scale;
    magnitude += std::abs(x * scale) * (std::abs(code) + std::abs(zero));
    scales += std::abs(scale);
  }
  const auto additions = static_cast<double>(2 * linear.in + 4 * linear.groups() + 4);
  return {value, additions * std::ldexp(magnitude, -24) + std::ldexp(scales, -117)};
}

Bf16Rows rounded(const std::vector<float>& values, std::int64_t in, std::int64_t group_size) {
  Bf16Rows rows;
  rows.resize(static_cast<std::int64_t>(values.size()) / in, in, group_size);
  round_rows(values.data(), 0, rows.rows, rows);
  return rows;
}

// The tables of the level under test; one level has two ways to multiply.
std::vector<KernelTable> tables() {
  const KernelTable& best = kernel_table(cpu_level());
#if defined(__x86_64__)
  if (cpu_level() == CpuLevel::kAvx512Vnni) {
    const KernelTable by_float{best.name, best.rows, best.integer, kAvx512VnniBf16};
    const KernelTable by_dot{best.name, best.rows, best.integer, kAvx512VnniBf16Dot};
    if (!__builtin_cpu_supports("avx512bf16")) return {by_float};
    return {by_float, by_dot};
  }
#endif
  return {best};
}

std::vector<float> multiply(const KernelTable& table,
                            const PackedWeights& weights,
                            const Bf16Rows& rows) {
  std::vector<float> out(static_cast<std::size_t>(rows.rows * weights.out));
  matmul_with(table, weights, rows, 0, weights.out, output_to(out, weights.out));
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void compare(const KernelTable& table, const LinearCase& linear, const Bf16Rows& rows) {
  const PackedWeights weights = linear.pack();
  const std::vector<float> values = multiply(table, weights, rows);
  std::vector<std::uint16_t> halves(values.size());
  Output output;
  output.bf16 = halves.data();
  output.stride = linear.out;
  matmul_with(table, weights, rows, 0, linear.out, output);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto place = static_cast<std::int64_t>(i);
    const Exact exact = exact_product(linear, rows, place / linear.out, place % linear.out);
    ASSERT_NEAR(values[i], exact.value, exact.bound)
        << "rows " << rows.rows << ", out " << linear.out << ", in " << linear.in;
    // Half a unit of 8 bits, or of the smallest number.
    ASSERT_NEAR(to_float(halves[i]), values[i], std::ldexp(std::abs(values[i]), -8) + 1e-40);
  }
}

struct A16Format : testing::TestWithParam<WeightFormat> {};

TEST_P(A16Format, IsWithinTheBound) {
  const WeightFormat format = GetParam();
  std::mt19937 random(static_cast<unsigned>(format.bits + format.group_size));
  for (const KernelTable& table : tables()) {
    for (std::int64_t in : {1, 2, 3, 5, 7, 8, 9, 15, 17, 33, 63, 65, 120, 129, 260}) {
      const LinearCase linear = random_linear(in % 2 == 0 ? 66 : 127, in, format, random);
      for (std::int64_t count = 0; count <= 13; ++count) {
        compare(table, linear, rounded(random_floats(count * in, random), in, format.group_size));
      }
    }
  }
}

std::vector<WeightFormat> formats() {
  std::vector<WeightFormat> result;
  for (int bits : {4, 8}) {
    for (std::int64_t group_size : {0, 8, 32, 64, 128, 200}) {
      result.push_back({bits, group_size, true});
      result.push_back({bits, group_size, false});
    }
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(All, A16Format, testing::ValuesIn(formats()), [](const auto& format) {
  return "w" + std::to_string(format.param.bits) + "g" + std::to_string(format.param.group_size) +
         (format.param.symmetric ? "" : "asymmetric");
});

// More rows than a kernel keeps sums of at a time, and single rows of the same batch.
TEST(MatmulA16, RowsDoNotDependOnTheBatch) {
  constexpr std::int64_t kRows = 130, kIn = 400, kOut = 70;
  std::mt19937 random(3);
  for (const WeightFormat& format : formats()) {
    const PackedWeights weights = random_linear(kOut, kIn, format, random).pack();
    const std::vector<float> values = random_floats(kRows * kIn, random);
    for (const KernelTable& table : tables()) {
      const std::vector<float> all =
          multiply(table, weights, rounded(values, kIn, format.group_size));
      for (std::int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 13, 64}) {
        const auto first = values.begin() + (kRows - count) * kIn;
        const std::vector<float> part =
            multiply(table, weights, rounded({first, values.end()}, kIn, format.group_size));
        EXPECT_TRUE(same_bits(part, {all.end() - count * kOut, all.end()}))
            << count << " rows, " << format.bits << " bits, group " << format.group_size;
      }
    }
  }
}

TEST(MatmulA16, AnySplitOfColumnsGivesTheSameBits) {
  constexpr std::int64_t kRows = 9, kIn = 136, kOut = 200;
  std::mt19937 random(4);
  const Bf16Rows rows = rounded(random_floats(kRows * kIn, random), kIn, 64);
  for (int bits : {4, 8}) {
    const PackedWeights weights = random_linear(kOut, kIn, {bits, 64, false}, random).pack();
    for (const KernelTable& table : tables()) {
      const std::vector<float> whole = multiply(table, weights, rows);
      for (int repetition = 0; repetition < 20; ++repetition) {
        std::vector<float> parts(whole.size(), -1.0f);
        std::int64_t begin = 0;
        while (begin < kOut) {
          const std::int64_t end =
              std::min<std::int64_t>(kOut, begin + static_cast<std::int64_t>(random() % 90));
          matmul_with(table, weights, rows, begin, end, output_to(parts, kOut));
          begin = end;
        }
        EXPECT_TRUE(same_bits(parts, whole));
      }
    }
  }
}

TEST(MatmulA16, NanAndInfinityStayInTheirRows) {
  constexpr std::int64_t kIn = 72, kOut = 65;
  std::mt19937 random(5);
  for (std::int64_t count : {3, 8}) {
    std::vector<float> values = random_floats(count * kIn, random);
    for (int bits : {4, 8}) {
      const LinearCase linear = random_linear(kOut, kIn, {bits, 32, bits == 4}, random);
      for (const KernelTable& table : tables()) {
        const std::vector<float> before = multiply(table, linear.pack(), rounded(values, kIn, 32));
        std::vector<float> spoiled = values;
        spoiled[0] = std::numeric_limits<float>::quiet_NaN();
        spoiled[static_cast<std::size_t>(kIn + 70)] = std::numeric_limits<float>::infinity();
        const std::vector<float> after = multiply(table, linear.pack(), rounded(spoiled, kIn, 32));
        for (std::size_t i = 0; i < 2 * kOut; ++i) {
          ASSERT_EQ(std::isfinite(after[i]), false);
        }
        EXPECT_TRUE(same_bits({after.begin() + 2 * kOut, after.end()},
                              {before.begin() + 2 * kOut, before.end()}));
      }
    }
  }
}

TEST(MatmulA16, TinyAndLargeNumbers) {
  std::mt19937 random(6);
  for (int bits : {4, 8}) {
    const LinearCase linear = random_linear(65, 40, {bits, 0, false}, random);
    for (float magnitude : {1e-41f, 1e-38f, 1e-30f, 1e30f}) {
      std::vector<float> values = random_floats(7 * 40, random);
      for (float& value : values) {
        value *= magnitude;
      }
      for (const KernelTable& table : tables()) {
        compare(table, linear, rounded(values, 40, 0));
      }
    }
  }
}

}  // namespace
}  // namespace qvlm::kernels
