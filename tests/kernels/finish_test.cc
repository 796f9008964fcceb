// The way out of a product: functions, the second operand, bfloat16.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

double exact(Function function, double x) {
  switch (function) {
    case Function::kSilu:
      return x / (1.0 + std::exp(-x));
    case Function::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Function::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Function::kQuickGelu:
      return x / (1.0 + std::exp(-1.702 * x));
    case Function::kNone:
      return x;
  }
  return x;
}

constexpr Function kFunctions[] = {Function::kNone, Function::kSilu, Function::kGelu,
                                   Function::kGeluTanh, Function::kQuickGelu};

// Products that are just the given numbers, by way of the bias of a zero weight: [1, out].
std::vector<float> applied(Function function, const std::vector<float>& values) {
  const auto out = static_cast<std::int64_t>(values.size());
  LinearCase linear{out, 8, {}, std::vector<std::int8_t>(values.size() * 8, 0), {}, {}};
  linear.scales.assign(values.size(), 1.0f);
  const QuantizedRows rows = make_rows(std::vector<std::int8_t>(8, 1), {1.0f}, 8, 0);
  std::vector<float> result(values.size());
  Output output = output_to(result, out, values.data());
  output.function = function;
  matmul(linear.pack(), rows, 0, out, output);
  return result;
}

TEST(Finish, FunctionsAreNearTheExactOnes) {
  std::vector<float> values;
  for (double x = -40.0; x <= 40.0; x += 0.00317)
    values.push_back(static_cast<float>(x));
  for (float x : {0.0f, 1e-30f, -1e-30f, 1e-4f, -1e-4f, 87.5f, -87.5f, 1e4f, -1e4f, 1e30f})
    values.push_back(x);
  for (Function function : kFunctions) {
    const std::vector<float> result = applied(function, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double x = values[i];
      ASSERT_NEAR(result[i], exact(function, x), 4e-7 * std::max(1.0, std::fabs(x)))
          << static_cast<int>(function) << " of " << x;
    }
  }
}

TEST(Finish, NotANumberStaysAndInfinityIsItsLimit) {
  for (Function function : kFunctions) {
    const std::vector<float> result = applied(function, {std::numeric_limits<float>::quiet_NaN(),
                                                         std::numeric_limits<float>::infinity()});
    EXPECT_TRUE(std::isnan(result[0])) << static_cast<int>(function);
    EXPECT_EQ(result[1], std::numeric_limits<float>::infinity()) << static_cast<int>(function);
  }
}

// Every way out at a level against the scalar one, for whole and cut panels.
class FinishFormat : public testing::TestWithParam<std::tuple<Function, Combine, bool>> {};

TEST_P(FinishFormat, EqualsTheScalarLevelBitForBit) {
  const Function function = std::get<0>(GetParam());
  const Combine combine = std::get<1>(GetParam());
  const bool to_bf16 = std::get<2>(GetParam());
  std::mt19937 random(11);
  const PackedWeights weights = random_linear(150, 40, {}, random).pack();
  const QuantizedRows rows = random_rows(7, 40, 0, random);
  const std::vector<float> bias = random_floats(150, random);
  const std::vector<float> operand = random_floats(7 * 160, random);
  const auto run = [&](const KernelTable& table, std::int64_t begin, std::int64_t end) {
    std::vector<float> values(7 * 150, -7.0f);
    std::vector<std::uint16_t> halves(7 * 150, 7);
    Output output;
    if (to_bf16) output.bf16 = halves.data();
    if (!to_bf16) output.values = values.data();
    output.stride = 150;
    output.bias = bias.data();
    output.function = function;
    output.combine = combine;
    output.operand = combine == Combine::kNone ? nullptr : operand.data();
    output.operand_stride = 160;
    matmul_with(table, weights, rows, begin, end, output);
    values.insert(values.end(), halves.begin(), halves.end());
    return values;
  };
  const KernelTable& here = kernel_table(cpu_level());
  const KernelTable& scalar = kernel_table(CpuLevel::kScalar);
  EXPECT_EQ(run(here, 0, 150), run(scalar, 0, 150));
  EXPECT_EQ(run(here, 5, 137), run(scalar, 5, 137));
}

INSTANTIATE_TEST_SUITE_P(
    All,
    FinishFormat,
    testing::Combine(testing::ValuesIn(kFunctions),
                     testing::Values(Combine::kNone, Combine::kAdd, Combine::kMultiply),
                     testing::Bool()));

TEST(Finish, TheOperandMayBeTheOutput) {
  std::mt19937 random(12);
  const PackedWeights weights = random_linear(70, 24, {4, 0, true}, random).pack();
  const QuantizedRows rows = random_rows(9, 24, 0, random);
  const std::vector<float> plain = product(weights, rows);
  const std::vector<float> residual = random_floats(9 * 70, random);
  std::vector<float> values = residual;
  Output output = output_to(values, 70);
  output.combine = Combine::kAdd;
  output.operand = values.data();
  output.operand_stride = 70;
  matmul(weights, rows, 0, 70, output);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i], plain[i] + residual[i]) << i;
  }
}

}  // namespace
}  // namespace qvlm::kernels
