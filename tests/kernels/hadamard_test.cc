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
constexpr double kUnit = 1.0 / (1 << 24);  // of float32's roundings

// Widths of one block; the last is a row of 43 blocks of 256.
constexpr std::int64_t kWidths[] = {1,        2,         8,       16,       32,      64,
                                    128,      512,       1024,    12 * 1,   12 * 2,  12 * 4,
                                    12 * 8,   12 * 16,   36 * 32, 20 * 256, 28 * 32, 108 * 2,
                                    148 * 16, 28 * 1024, 43 * 256};

std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> result;
  for (CpuLevel level : {CpuLevel::kScalar, CpuLevel::kAvx2, CpuLevel::kAvx512Vnni}) {
    if (cpu_supports(level)) result.push_back(level);
  }
  return result;
}

// Entry of the matrix of a block, times sqrt(width): the definition of qvlm/kernels.h.
int sign(const Hadamard& transform, std::int64_t row, std::int64_t column) {
  const std::int64_t run = transform.width / transform.order;
  const auto both = static_cast<std::uint64_t>((row % run) & (column % run));
  const auto place = static_cast<std::size_t>(row / run * transform.order + column / run);
  return std::popcount(both) % 2 == 0 ? transform.matrix[place] : -transform.matrix[place];
}

double sum_of_magnitudes(const float* values, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += std::fabs(values[i]);
  }
  return sum;
}

// A value takes part in one addition per factor 2 of the run, two to become a signed sum of 4 and
// one for each of these; the factor and its product are rounded as well.
double tolerance(const Hadamard& transform, const float* block) {
  const std::int64_t run = transform.width / transform.order;
  const std::int64_t steps = std::bit_width(static_cast<std::uint64_t>(run)) + 1 +
                             (transform.order == 1 ? 0 : 2 + transform.order / 4);
  const double width = static_cast<double>(transform.width);
  return static_cast<double>(steps) * kUnit * sum_of_magnitudes(block, transform.width) /
         std::sqrt(width);
}

std::vector<float> transform_of(std::vector<float> values,
                                std::int64_t in,
                                const Hadamard& transform) {
  transform_rows(values.data(), in, transform, 0, static_cast<std::int64_t>(values.size()) / in);
  return values;
}

double product_of(const float* a, const float* b, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += double{a[i]} * double{b[i]};
  }
  return sum;
}

TEST(Hadamard, WidthsAreOfTheWholeRowWhereAMatrixIsKnown) {
  struct Case {
    std::int64_t in, width, order;
  };
  for (const Case& expected : {Case{1, 1, 1},
                               {7, 1, 1},
                               {6, 2, 1},
                               {12, 12, 12},
                               {512, 512, 1},
                               {1152, 1152, 36},
                               {4096, 4096, 1},
                               {5120, 5120, 20},
                               {11008, 256, 1},
                               {13824, 13824, 108},
                               {14336, 14336, 28},
                               {18944, 18944, 148},
                               {172, 4, 1},
                               {4304, 16, 1}}) {
    const Hadamard transform = make_hadamard(expected.in);
    EXPECT_EQ(transform.width, expected.width) << expected.in;
    EXPECT_EQ(transform.order, expected.order) << expected.in;
  }
}

TEST(Hadamard, SmallMatricesAreOrthogonal) {
  int known = 0;
  for (std::int64_t in = 4; in <= 256; in += 8) {  // 4 times an odd number
    const Hadamard transform = make_hadamard(in);
    const std::int64_t order = transform.order;
    ASSERT_EQ(transform.matrix.size(), static_cast<std::size_t>(order * order));
    known += order == in;
    for (std::int64_t a = 0; a < order; ++a) {
      for (std::int64_t b = 0; b < order; ++b) {
        std::int64_t sum = 0;
        for (std::int64_t k = 0; k < order; ++k) {
          const int x = transform.matrix[static_cast<std::size_t>(a * order + k)];
          ASSERT_EQ(x * x, 1);
          sum += x * transform.matrix[static_cast<std::size_t>(b * order + k)];
        }
        ASSERT_EQ(sum, a == b ? order : 0) << order << ": rows " << a << " and " << b;
      }
    }
  }
  // 12 20 28 36 44 60 68 76 84 108 124 132 140 148 164 180 196 204 212 220 228 252
  EXPECT_EQ(known, 22);
}

TEST(TransformRows, IsTheProductWithTheMatrix) {
  std::mt19937 random(1);
  for (std::int64_t in : kWidths) {
    const Hadamard transform = make_hadamard(in);
    const std::vector<float> values = random_floats(in, random);
    const std::vector<float> result = transform_of(values, in, transform);
    const double factor = 1.0 / std::sqrt(static_cast<double>(transform.width));
    // A large block's columns are taken here and there; the step is prime to all widths.
    const std::int64_t step = in > 2048 ? 41 : 1;
    for (std::int64_t k = 0; k < in; k += step) {
      const std::int64_t column = k % transform.width;
      const float* block = values.data() + (k - column);
      double sum = 0.0;
      for (std::int64_t row = 0; row < transform.width; ++row) {
        sum += sign(transform, row, column) * double{block[row]};
      }
      ASSERT_NEAR(result[static_cast<std::size_t>(k)], sum * factor, tolerance(transform, block))
          << in << " at " << k;
    }
  }
}

TEST(TransformRows, KeepsProductsAndNorms) {
  std::mt19937 random(2);
  for (std::int64_t in : kWidths) {
    const Hadamard transform = make_hadamard(in);
    const std::vector<float> x = random_floats(in, random), w = random_floats(in, random);
    const std::vector<float> xh = transform_of(x, in, transform);
    const std::vector<float> wh = transform_of(w, in, transform);
    // By Cauchy-Schwarz, with errors of `tolerance` in each value.
    double error = 0.0;
    for (std::int64_t k = 0; k < in; k += transform.width) {
      const double width = static_cast<double>(transform.width);
      error += width * tolerance(transform, x.data() + k) * tolerance(transform, w.data() + k);
    }
    for (std::int64_t k = 0; k < in; ++k) {
      const std::int64_t block = k - k % transform.width;
      const auto at = static_cast<std::size_t>(k);
      error += std::fabs(xh[at]) * tolerance(transform, w.data() + block) +
               std::fabs(wh[at]) * tolerance(transform, x.data() + block);
    }
    EXPECT_NEAR(product_of(xh.data(), wh.data(), in), product_of(x.data(), w.data(), in), error);
    double norm_error = 0.0;
    for (std::int64_t k = 0; k < in; ++k) {
      const double each = tolerance(transform, x.data() + (k - k % transform.width));
      norm_error += 2.0 * std::fabs(xh[static_cast<std::size_t>(k)]) * each + each * each;
    }
    EXPECT_NEAR(product_of(xh.data(), xh.data(), in), product_of(x.data(), x.data(), in),
                norm_error);
  }
}

TEST(TransformRows, EveryLevelReturnsTheSameBits) {
  std::mt19937 random(3);
  for (std::int64_t in : kWidths) {
    const Hadamard transform = make_hadamard(in);
    std::vector<float> values = random_floats(4 * in, random);
    // NaN of both signs and different payloads, and infinities that cancel.
    const auto last = static_cast<std::size_t>(in - 1);
    values[static_cast<std::size_t>(in)] = std::bit_cast<float>(0xffc01234u);
    values[static_cast<std::size_t>(in) + last] = std::bit_cast<float>(0x7fc04321u);
    values[static_cast<std::size_t>(2 * in)] = kInfinity;
    values[static_cast<std::size_t>(2 * in) + last] = -kInfinity;
    std::vector<float> expected = values;
    transform_rows_with(kernel_table(CpuLevel::kScalar), expected.data(), in, transform, 0, 4);
    for (CpuLevel level : levels()) {
      std::vector<float> result = values;
      transform_rows_with(kernel_table(level), result.data(), in, transform, 0, 4);
      EXPECT_EQ(std::memcmp(result.data(), expected.data(), result.size() * sizeof(float)), 0)
          << in << " at level " << cpu_level_name(level);
    }
  }
}

TEST(TransformRows, LeavesOtherRowsAlone) {
  std::mt19937 random(4);
  const std::vector<float> values = random_floats(4 * 24, random);
  const Hadamard transform = make_hadamard(24);
  const std::vector<float> all_rows = transform_of(values, 24, transform);
  std::vector<float> result = values;
  transform_rows(result.data(), 24, transform, 1, 3);
  for (std::size_t k = 0; k < values.size(); ++k) {
    EXPECT_EQ(result[k], k / 24 == 1 || k / 24 == 2 ? all_rows[k] : values[k]) << k;
  }
}

TEST(TransformRows, TheDefaultAndOddRowsAreTheIdentity) {
  std::mt19937 random(5);
  const std::vector<float> values = random_floats(3 * 7, random);
  EXPECT_EQ(transform_of(values, 7, {}), values);
  EXPECT_EQ(transform_of(values, 7, make_hadamard(7)), values);
}

TEST(TransformRows, BadArgumentsAreRefused) {
  std::vector<float> values(24);
  EXPECT_THROW(make_hadamard(0), std::invalid_argument);
  EXPECT_THROW(make_hadamard(-8), std::invalid_argument);
  const Hadamard transform = make_hadamard(8);
  EXPECT_THROW(transform_rows(values.data(), 12, transform, 0, 2), std::invalid_argument);
  EXPECT_THROW(transform_rows(values.data(), 4, transform, 0, 2), std::invalid_argument);
  EXPECT_THROW(transform_rows(values.data(), 0, transform, 0, 2), std::invalid_argument);
  EXPECT_THROW(transform_rows(values.data(), 8, transform, -1, 2), std::invalid_argument);
  EXPECT_THROW(transform_rows(values.data(), 8, transform, 2, 1), std::invalid_argument);
  EXPECT_THROW(transform_rows(nullptr, 8, transform, 0, 1), std::invalid_argument);
  EXPECT_NO_THROW(transform_rows(nullptr, 8, transform, 0, 0));
  QuantizedRows codes;
  codes.resize(2, 12, 0);
  EXPECT_THROW(quantize_rows(values.data(), {.transform = &transform}, 0, 2, codes),
               std::invalid_argument);
  Bf16Rows rounded;
  rounded.resize(2, 12, 0);
  EXPECT_THROW(round_rows(values.data(), 0, 2, rounded, &transform), std::invalid_argument);
  const auto refuses = [&](void (*damage)(Hadamard&)) {
    Hadamard damaged = make_hadamard(24);
    damage(damaged);
    EXPECT_THROW(transform_rows(values.data(), 24, damaged, 0, 1), std::invalid_argument);
  };
  refuses([](Hadamard& t) { t.terms.pop_back(); });
  refuses([](Hadamard& t) { t.order = 0; });
  refuses([](Hadamard& t) { t.order = 8; });
  refuses([](Hadamard& t) { t.width = 12 * 3; });
  refuses([](Hadamard& t) { t.width = -24; });
}

// Three rows, of which the second has a NaN and the third an infinity.
std::vector<float> rows_with_bad_values(std::int64_t in, std::mt19937& random) {
  std::vector<float> values = random_floats(3 * in, random);
  values[static_cast<std::size_t>(in + in / 2)] = kNan;
  values[static_cast<std::size_t>(2 * in + in / 3)] = -kInfinity;
  return values;
}

TEST(QuantizeRows, OfATransformAreThoseOfTransformedRows) {
  std::mt19937 random(6);
  for (std::int64_t in : kWidths) {
    const Hadamard transform = make_hadamard(in);
    const std::vector<float> values = rows_with_bad_values(in, random);
    const std::vector<float> before = transform_of(values, in, transform);
    for (CpuLevel level : levels()) {
      const KernelTable& table = kernel_table(level);
      QuantizedRows fused, apart;
      fused.resize(3, in, 32);
      apart.resize(3, in, 32);
      const ActivationCodes format{.bits = 4, .clip_ratio = 0.9f, .transform = &transform};
      quantize_rows_with(table, values.data(), format, 0, 3, fused);
      quantize_rows_with(table, before.data(), {4, 0.9f}, 0, 3, apart);
      EXPECT_EQ(fused.codes, apart.codes) << in;
      EXPECT_EQ(fused.sums, apart.sums) << in;
      EXPECT_EQ(std::memcmp(fused.scales.data(), apart.scales.data(), 3 * sizeof(float)), 0) << in;
      EXPECT_TRUE(std::isfinite(fused.scales[0]));
      for (std::size_t row : {1u, 2u}) {
        EXPECT_TRUE(std::isnan(fused.scales[row])) << in;
        const auto stride = static_cast<std::ptrdiff_t>(row_stride(in));
        const auto codes = fused.codes.begin() + static_cast<std::ptrdiff_t>(row) * stride;
        EXPECT_TRUE(std::all_of(codes, codes + stride, [](int code) { return code == 0; }));
      }
    }
  }
}

TEST(RoundRows, OfATransformAreThoseOfTransformedRows) {
  std::mt19937 random(7);
  for (std::int64_t in : kWidths) {
    const Hadamard transform = make_hadamard(in);
    const std::vector<float> values = rows_with_bad_values(in, random);
    const std::vector<float> before = transform_of(values, in, transform);
    for (CpuLevel level : levels()) {
      Bf16Rows fused, apart;
      fused.resize(3, in, 32);
      apart.resize(3, in, 32);
      round_rows_with(kernel_table(level), values.data(), 0, 3, fused, &transform);
      round_rows_with(kernel_table(level), before.data(), 0, 3, apart);
      EXPECT_EQ(fused.values, apart.values) << in;
      const std::size_t bytes = apart.sums.size() * sizeof(float);
      EXPECT_EQ(std::memcmp(fused.sums.data(), apart.sums.data(), bytes), 0) << in;
    }
  }
}

}  // namespace
}  // namespace qvlm::kernels
