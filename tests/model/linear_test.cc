// The seam: packed, simulated and float execution of the same codes.
#include "model/linear.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "model/functional.h"
#include "model/matmul_clock.h"

namespace qvlm {
namespace {

struct Case {
  int weight_bits, activation_bits, group_size;
  bool symmetric;
};

QuantizedWeight random_weight(const Case& c, std::int64_t out, std::int64_t in) {
  Scheme scheme{.bits = c.weight_bits, .symmetric = c.symmetric};
  if (c.group_size > 0) {
    scheme.granularity = Granularity::kGroup;
    scheme.group_size = c.group_size;
  }
  return to_quantized_weight(quantize_weight(at::randn({out, in}), scheme, at::kFloat));
}

std::optional<Scheme> activation_scheme(const Case& c) {
  if (c.activation_bits == 16) return std::nullopt;
  return Scheme{.bits = c.activation_bits,
                .granularity = Granularity::kToken,
                .dynamic = true,
                .clip_ratio = 0.9};
}

class LinearTest : public testing::TestWithParam<Case> {};

// The codes of both are the same (next test), and so the integer sums, which kernels_test holds to
// the formula; the float steps differ only in order. With n = in products summed in float32 the
// simulated sum is off by at most n * 2^-24 of the sum of magnitudes. bf16 products are summed in
// float32 too.
TEST_P(LinearTest, PackedEqualsSimulated) {
  at::manual_seed(7);
  constexpr std::int64_t kOut = 75, kIn = 256;
  const QuantizedWeight weight = random_weight(GetParam(), kOut, kIn);
  const std::optional<Scheme> activation = activation_scheme(GetParam());
  const at::Tensor bias = at::randn({kOut});
  const Linear packed(weight, bias, {weight.scheme, activation, {}}, Execution::kPacked);
  const Linear simulated(weight, bias, {weight.scheme, activation, {}}, Execution::kSimulated);
  for (const std::int64_t tokens : {0, 1, 5, 33}) {
    const at::Tensor x = at::randn({tokens, kIn});
    const at::Tensor rounded =
        activation ? fake_quantize_tokens(x, *activation) : x.to(at::kBFloat16).to(at::kFloat);
    const at::Tensor bound =
        at::matmul(rounded.abs(), to_quantized_tensor(weight).dequantize().abs().t()) *
            (kIn * 0x1p-23) +
        1e-6;
    const at::Tensor difference = packed.forward(x) - simulated.forward(x);
    EXPECT_TRUE((difference.abs() <= bound).all().item<bool>());
  }
}

TEST_P(LinearTest, InputsHaveTheCodesOfTheGrid) {
  at::manual_seed(9);
  const std::optional<Scheme> activation = activation_scheme(GetParam());
  if (!activation) return;
  const at::Tensor x = at::randn({40, 250}) * at::logspace(-3, 3, 40).unsqueeze(1);
  const LinearInput input(x);
  const kernels::QuantizedRows& rows = input.codes(*activation, 0);
  const Grid grid = make_grid(observe_tokens(x, *activation), *activation);
  const at::Tensor want = quantize(x, grid, *activation).to(at::kChar).contiguous();
  for (std::int64_t row = 0; row < 40; ++row) {
    const std::int8_t* codes = rows.codes.data() + row * kernels::row_stride(250);
    ASSERT_TRUE(std::equal(codes, codes + 250, want.const_data_ptr<std::int8_t>() + row * 250));
  }
}

// Functions differ from LibTorch's by up to 4e-7 of the larger of 1 and the value.
TEST_P(LinearTest, FinishesLikeTensorOperations) {
  at::manual_seed(10);
  const QuantizedWeight weight = random_weight(GetParam(), 75, 256);
  const Linear linear(weight, at::randn({75}), {weight.scheme, activation_scheme(GetParam()), {}},
                      Execution::kPacked);
  const at::Tensor x = at::randn({9, 256}), operand = at::randn({9, 75});
  const at::Tensor plain = linear.forward(x);
  const auto expect_close = [&](const at::Tensor& got, const at::Tensor& want) {
    EXPECT_TRUE(at::allclose(got, want, 1e-6, 1e-6));
  };
  for (const Activation function :
       {Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu, Activation::kSilu}) {
    expect_close(linear.forward(x, {.function = function}), activate(plain, function));
  }
  expect_close(linear.forward(x, add_to(operand)), plain + operand);
  expect_close(linear.forward(x, multiply_by(operand)), plain * operand);
}

TEST_P(LinearTest, SaysWhatItDoes) {
  const QuantizedWeight weight = random_weight(GetParam(), 8, 256);
  const std::optional<Scheme> activation = activation_scheme(GetParam());
  const auto arithmetic = [&](Execution execution) {
    return Linear(weight, {}, {weight.scheme, activation, {}}, execution).arithmetic();
  };
  EXPECT_EQ(arithmetic(Execution::kPacked),
            activation ? Arithmetic::kInteger : Arithmetic::kUnpacked);
  EXPECT_EQ(arithmetic(Execution::kSimulated), Arithmetic::kSimulated);
  EXPECT_EQ(arithmetic(Execution::kFloat), Arithmetic::kDequantized);
  EXPECT_EQ(arithmetic(Execution::kBf16), Arithmetic::kBf16);
  EXPECT_EQ(Linear(at::ones({2, 2}), {}).arithmetic(), Arithmetic::kFloat);
  EXPECT_EQ(Linear(at::ones({2, 2}, at::kBFloat16), {}).arithmetic(), Arithmetic::kFloat);
  EXPECT_EQ(Linear(at::ones({2, 2}), {}, Execution::kBf16).arithmetic(), Arithmetic::kBf16);
}

// Inputs and weight each lose at most 2^-8 of a value in rounding, and so does the sum at the end;
// the bias is added in float.
TEST(Linear, MultipliesInBf16) {
  at::manual_seed(8);
  const at::Tensor weight = at::randn({75, 256}), bias = at::randn({75}), x = at::randn({5, 256});
  const double before = matmul_seconds();
  const at::Tensor got = Linear(weight, bias, Execution::kBf16).forward(x);
  EXPECT_GT(matmul_seconds(), before);
  const at::Tensor bound = at::matmul(x.abs(), weight.abs().t()) * (3.1 * 0x1p-8);
  EXPECT_TRUE(((got - at::linear(x, weight, bias)).abs() <= bound).all().item<bool>());
}

// A weight that stays in 16 bits gives what its float32 copy does, up to the order of n = in sums.
TEST(Linear, MultipliesAWeightInTheTypeOfItsFile) {
  at::manual_seed(11);
  const at::Tensor bias = at::randn({600});
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor weight = at::randn({600, 1000}).to(type), wide = weight.to(at::kFloat);
    const Linear linear(weight, bias);
    for (const std::int64_t tokens : {0, 1, 4, 5, 70}) {
      const at::Tensor x = at::randn({tokens, 1000});
      const at::Tensor bound = at::matmul(x.abs(), wide.abs().t()) * (1000 * 0x1p-23) + 1e-6;
      const at::Tensor difference = linear.forward(x) - at::linear(x, wide, bias);
      EXPECT_TRUE((difference.abs() <= bound).all().item<bool>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes,
                         LinearTest,
                         testing::Values(Case{8, 8, 0, true},
                                         Case{4, 8, 128, true},
                                         Case{4, 8, 0, true},
                                         Case{4, 4, 32, true},
                                         Case{6, 6, 0, true},
                                         Case{3, 3, 64, true},
                                         Case{8, 8, 64, true},
                                         Case{4, 8, 128, false},
                                         Case{8, 8, 0, false},
                                         Case{4, 16, 128, true},
                                         Case{4, 16, 128, false},
                                         Case{8, 16, 0, true}));

}  // namespace
}  // namespace qvlm
