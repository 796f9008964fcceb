// Learned quantizers give the values of quant/grid, and the gradients of the formulas in the paper.
#include "search/learned_rounding.h"

#include <gtest/gtest.h>

#include <vector>

#include "quant/quantized_tensor.h"

namespace qvlm {
namespace {

at::Tensor to_clip(double ratio, bool learned) {
  return at::scalar_tensor(ratio, at::kFloat).set_requires_grad(learned);
}

// Rows of different sizes, one of zeros, one of equal values.
at::Tensor make_values(std::int64_t rows, std::int64_t in) {
  at::manual_seed(7);
  const at::Tensor sizes = at::logspace(-3, 2, rows, 10.0, at::kFloat).unsqueeze(1);
  const at::Tensor values = at::randn({rows, in}) * sizes;
  values[1].zero_();
  values[2].fill_(0.25);
  return values;
}

std::vector<Scheme> weight_schemes() {
  std::vector<Scheme> schemes;
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {true, false}) {
      for (const Granularity granularity :
           {Granularity::kTensor, Granularity::kChannel, Granularity::kGroup}) {
        schemes.push_back({.bits = bits,
                           .symmetric = symmetric,
                           .granularity = granularity,
                           .group_size = granularity == Granularity::kGroup ? 32 : 0});
      }
    }
  }
  return schemes;
}

TEST(LearnedRounding, WeightsAreThoseOfTheGrid) {
  const at::Tensor weight = make_values(12, 96);
  for (Scheme scheme : weight_schemes()) {
    for (const float ratio : {1.0F, 0.83F}) {
      for (const at::ScalarType storage : {at::kFloat, at::kBFloat16}) {
        for (const bool learned : {false, true}) {
          scheme.clip_ratio = ratio;
          const at::Tensor want = quantize_weight(weight, scheme, storage).dequantize();
          scheme.clip_ratio = 0.5;  // the clip takes its place
          const at::Tensor got = round_weight(weight, to_clip(ratio, learned), scheme, storage,
                                              CodeRounding::kNearest);
          EXPECT_TRUE(at::equal(got.detach(), want)) << describe({scheme, {}, {}}) << " " << ratio;
          EXPECT_EQ(got.requires_grad(), learned);
        }
      }
    }
  }
}

TEST(LearnedRounding, ActivationsAreThoseOfTheGrid) {
  for (const int bits : {3, 4, 8}) {
    for (const bool symmetric : {true, false}) {
      for (const float ratio : {1.0F, 0.83F, 0.3F}) {
        Scheme scheme{.bits = bits,
                      .symmetric = symmetric,
                      .granularity = Granularity::kToken,
                      .dynamic = true};
        const at::Tensor x = make_values(12, 96);
        scheme.clip_ratio = ratio;
        const at::Tensor want = fake_quantize_tokens(x, scheme);
        const InputRounding learned =
            make_learned_rounding(scheme, to_clip(ratio, true), CodeRounding::kNearest);
        EXPECT_TRUE(at::equal((*learned)(x).detach(), want));
        x.set_requires_grad(true);
        EXPECT_TRUE(at::equal((*learned)(x).detach(), want));
      }
    }
  }
}

TEST(LearnedRounding, InputsWithoutASchemeAreBfloat16) {
  const at::Tensor x = make_values(12, 96);
  const at::Tensor want = (*make_rounding(LinearScheme{}, x.size(1)))(x);
  x.set_requires_grad(true);
  const at::Tensor got = (*make_straight_bf16(CodeRounding::kNearest))(x);
  EXPECT_TRUE(at::equal(got.detach(), want));
  got.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::ones_like(x)));
}

// d value / d scale of LSQ: code - steps where the steps are within the codes, else the last code.
// The scale is clip * absmax / 7.5, so its derivative by the clip is absmax / 7.5.
TEST(LearnedRounding, GradientOfTheClipIsThatOfLsq) {
  const at::Tensor weight = make_values(12, 96);
  const Scheme scheme{.bits = 4, .granularity = Granularity::kChannel};
  const at::Tensor clip = to_clip(0.6, true);
  at::manual_seed(8);
  const at::Tensor upstream = at::randn(weight.sizes());
  round_weight(weight, clip, scheme, at::kFloat, CodeRounding::kNearest).backward(upstream);

  const at::Tensor unit = weight.abs().amax(1, true).to(at::kDouble) / 7.5;
  const at::Tensor scale = at::where(unit > 0, unit * 0.6, at::ones_like(unit));
  const at::Tensor steps = weight.to(at::kDouble) / scale;
  const at::Tensor codes = steps.round();
  const at::Tensor inside = (codes >= -8).logical_and(codes <= 7);
  const at::Tensor slope = at::where(inside, codes - steps, codes.clamp(-8, 7));
  const double want = (upstream * slope * unit).sum().item<double>();
  EXPECT_NEAR(clip.grad().item<double>(), want, 1e-4 * std::abs(want));
}

// Inside the range the gradient of an activation is what came from above; outside, only what moves
// the token's absolute maximum arrives, at the value that is the maximum.
TEST(LearnedRounding, GradientOfActivationsGoesStraightThrough) {
  const Scheme scheme{
      .bits = 4, .granularity = Granularity::kToken, .dynamic = true, .clip_ratio = 1.0};
  const at::Tensor x = at::tensor({0.1F, 0.62F, -1.0F, 4.0F}).unsqueeze(0).set_requires_grad(true);
  const at::Tensor clip = to_clip(0.5, true);  // scale 4 / 15: the last value is outside
  round_tokens(x, clip, scheme, CodeRounding::kNearest).sum().backward();
  const std::vector<double> steps = {0.375, 2.325, -3.75};
  const std::vector<double> codes = {0, 2, -4};
  double at_scale = 7;
  for (std::size_t i = 0; i < steps.size(); ++i)
    at_scale += codes[i] - steps[i];
  const at::Tensor want = at::tensor({1.0, 1.0, 1.0, at_scale * 0.5 / 7.5}).unsqueeze(0);
  EXPECT_LE((x.grad() - want).abs().max().item<double>(), 1e-5);
  EXPECT_NEAR(clip.grad().item<double>(), at_scale * 4 / 7.5, 1e-5);
}

TEST(LearnedRounding, WithoutRoundingOnlyTheEndsAreCut) {
  const at::Tensor weight = make_values(12, 96);
  const Scheme scheme{.bits = 4, .granularity = Granularity::kChannel};
  const at::Tensor got =
      round_weight(weight, to_clip(0.6, false), scheme, at::kBFloat16, CodeRounding::kNone);
  const at::Tensor limit = weight.abs().amax(1, true) * (0.6 / 7.5);
  const at::Tensor want = at::minimum(at::maximum(weight, limit * -8), limit * 7);
  EXPECT_LE((got - want).abs().max().item<double>(), 1e-6 * weight.abs().max().item<double>());
}

}  // namespace
}  // namespace qvlm
