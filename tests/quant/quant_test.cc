// Properties of the quantizer (docs/method of rounding: src/quant/grid.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <limits>

#include "base/parallel.h"
#include "quant/quantized_tensor.h"
#include "quant/weight_error.h"

namespace qvlm {
namespace {

struct Case {
  int bits;
  bool symmetric;
  Granularity granularity;
  int group_size;
};

class WeightTest : public testing::TestWithParam<Case> {
 protected:
  WeightTest()
      : scheme_{.bits = GetParam().bits,
                .symmetric = GetParam().symmetric,
                .granularity = GetParam().granularity,
                .group_size = GetParam().group_size} {
    at::manual_seed(GetParam().bits);
  }
  Scheme scheme_;
};

// Inside the range the nearest code is at most half a step away. Symmetric grids end half a step
// early at the top: absmax = 127.5 steps, highest code 127; so the bound holds up to rounding of
// the float32 arithmetic itself.
TEST_P(WeightTest, RoundTripIsWithinHalfAStep) {
  const at::Tensor weight =
      at::randn({6, 256}) * at::tensor({0.01, 0.1, 1.0, 3.0, 100.0, 1e-4}).unsqueeze(1);
  const QuantizedTensor quantized = quantize_weight(weight, scheme_, at::kFloat);
  const at::Tensor steps = quantized.scale.repeat_interleave(256 / quantized.scale.size(1), 1);
  const at::Tensor error = (quantized.dequantize() - weight).abs();
  EXPECT_LE((error / steps).max().item<double>(), 0.5 + 1e-4);
}

TEST_P(WeightTest, CodesStayInRangeAndZeroIsExact) {
  at::Tensor weight = at::randn({4, 256});
  weight.index_put_({0, 5}, 0.0);
  const QuantizedTensor quantized = quantize_weight(weight, scheme_, at::kBFloat16);
  EXPECT_GE(quantized.codes.min().item<std::int64_t>(), lowest_code(scheme_));
  EXPECT_LE(quantized.codes.max().item<std::int64_t>(), highest_code(scheme_));
  EXPECT_EQ(quantized.dequantize()[0][5].item<float>(), 0.0f);
}

TEST_P(WeightTest, ConstantAndZeroRowsAreSafe) {
  const at::Tensor weight =
      at::stack({at::zeros({256}), at::full({256}, 3.0), at::full({256}, -1e-30)});
  const at::Tensor back = quantize_weight(weight, scheme_, at::kHalf).dequantize();
  EXPECT_TRUE(back.isfinite().all().item<bool>());
  EXPECT_EQ(back[0].abs().max().item<float>(), 0.0f);
  // The top code of a symmetric b-bit grid is 1 / (2^b - 1) short of absmax; an asymmetric one
  // reaches it. The scale itself is rounded to half precision (2^-11).
  const double steps = static_cast<double>((1 << scheme_.bits) - 1);
  EXPECT_NEAR(back[1][0].item<double>(), 3.0, 3.0 * (1.0 / steps + 0x1p-10));
}

INSTANTIATE_TEST_SUITE_P(Schemes,
                         WeightTest,
                         testing::Values(Case{2, true, Granularity::kChannel, 0},
                                         Case{3, true, Granularity::kGroup, 64},
                                         Case{4, true, Granularity::kGroup, 128},
                                         Case{4, false, Granularity::kGroup, 32},
                                         Case{6, true, Granularity::kChannel, 0},
                                         Case{8, true, Granularity::kTensor, 0},
                                         Case{8, true, Granularity::kChannel, 0},
                                         Case{8, false, Granularity::kChannel, 0}));

TEST(QuantTest, SymmetricScaleIsThatOfCompressedTensors) {
  const at::Tensor weight = at::tensor({-2.55f, 1.0f, 0.0f, 0.25f}).unsqueeze(0);
  const QuantizedTensor quantized = quantize_weight(weight, {.bits = 8}, at::kFloat);
  EXPECT_FLOAT_EQ(quantized.scale.item<float>(), 2.55f / 127.5f);
  EXPECT_EQ(quantized.codes[0][0].item<int>(), -128);  // -127.5 rounds half to even
  EXPECT_EQ(quantized.codes[0][1].item<int>(), 50);
}

TEST(QuantTest, HalvesRoundToEven) {
  const Grid unit{at::ones({1}), {}};
  const at::Tensor codes =
      quantize(at::tensor({0.5, 1.5, 2.5, -0.5, -1.5, 200.0, -200.0}), unit, {.bits = 8});
  EXPECT_TRUE(at::equal(codes, at::tensor({0.0, 2.0, 2.0, -0.0, -2.0, 127.0, -128.0})));
}

TEST(QuantTest, StoredScaleIsTheUsedScale) {
  const QuantizedTensor quantized = quantize_weight(at::randn({8, 64}), {.bits = 4}, at::kBFloat16);
  EXPECT_TRUE(at::equal(quantized.scale, quantized.scale.to(at::kBFloat16).to(at::kFloat)));
}

TEST(QuantTest, FileFormRoundTrips) {
  const Scheme scheme{
      .bits = 4, .symmetric = false, .granularity = Granularity::kGroup, .group_size = 32};
  const QuantizedTensor tensor = quantize_weight(at::randn({5, 96}), scheme, at::kFloat);
  const QuantizedTensor back = to_quantized_tensor(to_quantized_weight(tensor));
  EXPECT_TRUE(at::equal(back.codes, tensor.codes));
  EXPECT_TRUE(at::equal(back.scale, tensor.scale));
  EXPECT_TRUE(at::equal(back.zero_point, tensor.zero_point));
}

TEST(QuantTest, ClipRatioNarrowsTheRange) {
  const at::Tensor tokens = at::tensor({4.0f, -1.0f, 0.5f, 1.0f}).unsqueeze(0);
  const Scheme scheme{
      .bits = 8, .granularity = Granularity::kToken, .dynamic = true, .clip_ratio = 0.5};
  const at::Tensor back = fake_quantize_tokens(tokens, scheme);
  EXPECT_FLOAT_EQ(back[0][0].item<float>(),
                  127.0f * (2.0f / 127.5f));  // clamped to the clipped range
}

TEST(QuantTest, RelativeErrorIsOneNumberForAnyThreads) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({257, 1000}), other = weight + 0.1 * at::randn({257, 1000});
  const double want =
      ((other - weight).to(at::kDouble).square().sum() / weight.to(at::kDouble).square().sum())
          .item<double>();
  std::vector<double> got;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    got.push_back(relative_error(other, weight));
  }
  set_thread_count(0);
  EXPECT_NEAR(got[0], want, 1e-6 * want);  // float differences against double ones
  EXPECT_EQ(got, std::vector<double>(3, got[0]));
  EXPECT_EQ(relative_error(weight, weight), 0.0);
  EXPECT_EQ(relative_error(other, at::zeros_like(weight)), 0.0);
}

TEST(QuantTest, RefusesWhatItCannotQuantize) {
  const auto kind_of = [](const at::Tensor& weight, const Scheme& scheme) {
    try {
      quantize_weight(weight, scheme, at::kFloat);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  };
  at::Tensor poisoned = at::ones({2, 64});
  poisoned.index_put_({1, 3}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(kind_of(poisoned, {}), ErrorKind::kCorrupt);
  const Scheme grouped{.bits = 4, .granularity = Granularity::kGroup, .group_size = 128};
  EXPECT_EQ(kind_of(at::ones({2, 64}), grouped), ErrorKind::kInvalidArgument);
}

}  // namespace
}  // namespace qvlm
