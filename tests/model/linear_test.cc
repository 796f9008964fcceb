// The seam: packed, simulated and float execution of the same codes.
#include "model/linear.h"

#include <gtest/gtest.h>

#include "model/matmul_clock.h"

namespace qvlm {
namespace {

struct Case {
  int weight_bits, activation_bits, group_size;
  bool symmetric;
};

QuantizedTensor random_weight(const Case& c, std::int64_t out, std::int64_t in) {
  Scheme scheme{.bits = c.weight_bits, .symmetric = c.symmetric};
  if (c.group_size > 0) {
    scheme.granularity = Granularity::kGroup;
    scheme.group_size = c.group_size;
  }
  return quantize_weight(at::randn({out, in}), scheme, at::kFloat);
}

class LinearTest : public testing::TestWithParam<Case> {};

// Codes and integer sums are equal by construction; the float steps differ only in order. With n =
// in products summed in float32 the simulated sum is off by at most n * 2^-24 of the sum of
// magnitudes.
TEST_P(LinearTest, PackedEqualsSimulated) {
  at::manual_seed(7);
  constexpr std::int64_t kOut = 75, kIn = 256;
  const QuantizedTensor weight = random_weight(GetParam(), kOut, kIn);
  const Scheme activation{.bits = GetParam().activation_bits,
                          .granularity = Granularity::kToken,
                          .dynamic = true,
                          .clip_ratio = 0.9};
  const at::Tensor bias = at::randn({kOut});
  const Linear packed(weight, bias, activation, Execution::kPacked);
  const Linear simulated(weight, bias, activation, Execution::kSimulated);
  for (const std::int64_t tokens : {0, 1, 5, 33}) {
    const at::Tensor x = at::randn({tokens, kIn});
    const at::Tensor want = simulated.forward(x);
    const at::Tensor bound =
        at::matmul(fake_quantize_tokens(x, activation).abs(), weight.dequantize().abs().t()) *
            (kIn * 0x1p-23) +
        1e-6;
    EXPECT_TRUE(((packed.forward(x) - want).abs() <= bound).all().item<bool>());
  }
}

TEST_P(LinearTest, SaysWhatItDoes) {
  const QuantizedTensor weight = random_weight(GetParam(), 8, 256);
  const Scheme activation{.bits = 8, .granularity = Granularity::kToken, .dynamic = true};
  const Arithmetic packed = Linear(weight, {}, activation, Execution::kPacked).arithmetic();
  EXPECT_EQ(packed, GetParam().symmetric ? Arithmetic::kInteger : Arithmetic::kSimulated);
  EXPECT_EQ(Linear(weight, {}, activation, Execution::kFloat).arithmetic(),
            Arithmetic::kDequantized);
  EXPECT_EQ(Linear(weight, {}, {}, Execution::kPacked).arithmetic(), Arithmetic::kDequantized);
  EXPECT_EQ(Linear(at::ones({2, 2}), {}).arithmetic(), Arithmetic::kFloat);
  EXPECT_EQ(Linear(weight, {}, activation, Execution::kBf16).arithmetic(), Arithmetic::kBf16);
  EXPECT_EQ(Linear(at::ones({2, 2}, at::kBFloat16), {}).arithmetic(), Arithmetic::kBf16);
}

// Inputs and weight each lose at most 2^-8 of a value in rounding, and so does the sum at the end;
// the bias is added in float.
TEST(Linear, MultipliesInBf16) {
  at::manual_seed(8);
  const at::Tensor weight = at::randn({75, 256}), bias = at::randn({75}), x = at::randn({5, 256});
  const double before = matmul_seconds();
  const at::Tensor got = Linear(weight.to(at::kBFloat16), bias).forward(x);
  EXPECT_GT(matmul_seconds(), before);
  const at::Tensor bound = at::matmul(x.abs(), weight.abs().t()) * (3.1 * 0x1p-8);
  EXPECT_TRUE(((got - at::linear(x, weight, bias)).abs() <= bound).all().item<bool>());
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
                                         Case{4, 8, 128, false}));

}  // namespace
}  // namespace qvlm
