// GPTQ against nearest rounding and against the algorithm as it is written down.
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "rounding/gptq.h"
#include "rounding/second_moment.h"

namespace qvlm {
namespace {

at::Tensor random_tensor(c10::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kFloat);
}

// Channels that go together, some of them far larger than others.
at::Tensor make_inputs(std::int64_t tokens, std::int64_t in, std::uint64_t seed) {
  const at::Tensor mixed =
      at::matmul(random_tensor({tokens, in / 4}, seed), random_tensor({in / 4, in}, seed + 1)) +
      0.3 * random_tensor({tokens, in}, seed + 2);
  return mixed * random_tensor({in}, seed + 3).exp();
}

at::Tensor moments_of(const at::Tensor& x) {
  SecondMoment moment;
  moment.add(x);
  return moment.matrix();
}

std::vector<Scheme> schemes() {
  return {{.bits = 4, .granularity = Granularity::kGroup, .group_size = 32},
          {.bits = 3},
          {.bits = 4, .symmetric = false, .granularity = Granularity::kGroup, .group_size = 64},
          {.bits = 8}};
}

TEST(SecondMoment, IsTheWeighedMeanOverAllThatWasAdded) {
  const at::Tensor x = random_tensor({10, 6}, 1);
  SecondMoment parts;
  parts.add(x.slice(0, 0, 3));
  parts.add(x.slice(0, 3, 10));
  const at::Tensor want = at::matmul(x.t(), x).to(at::kDouble) / 10.0;
  EXPECT_TRUE(at::allclose(parts.matrix(), want, 1e-5, 1e-6));
  // A weight of 3 is as good as being there three times, one of 0 as not being there.
  SecondMoment weighed, repeated;
  weighed.add(x.slice(0, 0, 3), at::tensor({3.0f, 1.0f, 0.0f}));
  repeated.add(x.index_select(0, at::tensor({0, 0, 0, 1}, at::kLong)));
  EXPECT_TRUE(at::allclose(weighed.matrix(), repeated.matrix(), 1e-5, 1e-6));
  EXPECT_THROW(SecondMoment().matrix(), Error);
  EXPECT_THROW(weighed.add(at::full({1, 6}, std::numeric_limits<float>::quiet_NaN())), Error);
}

TEST(Gptq, IsNearestWhereInputsDoNotGoTogether) {
  const at::Tensor weight = random_tensor({24, 128}, 2);
  const at::Tensor moments = at::rand({128}, at::kDouble).add(0.5).diag();
  for (const Scheme& scheme : schemes()) {
    for (const bool act_order : {false, true}) {
      const QuantizedTensor want = quantize_weight(weight, scheme, at::kBFloat16);
      const QuantizedTensor got =
          gptq(weight, moments, scheme, at::kBFloat16, {.act_order = act_order});
      EXPECT_TRUE(at::equal(got.codes, want.codes));
      EXPECT_TRUE(at::equal(got.scale, want.scale));
    }
  }
}

TEST(Gptq, LowersTheErrorAtTheOutput) {
  const at::Tensor weight = random_tensor({48, 256}, 3);
  const at::Tensor moments = moments_of(make_inputs(600, 256, 4));
  for (const Scheme& scheme : schemes()) {
    const QuantizedTensor nearest = quantize_weight(weight, scheme, at::kFloat);
    const double before = output_error(nearest.dequantize(), weight, moments);
    double errors[2];
    for (const bool act_order : {false, true}) {
      const QuantizedTensor rounded =
          gptq(weight, moments, scheme, at::kFloat, {.act_order = act_order});
      EXPECT_TRUE(at::equal(rounded.scale, nearest.scale));
      EXPECT_LE(rounded.codes.max().item<int>(), (1 << (scheme.bits - 1)) - 1);
      EXPECT_GE(rounded.codes.min().item<int>(), -(1 << (scheme.bits - 1)));
      errors[act_order ? 1 : 0] = output_error(rounded.dequantize(), weight, moments);
    }
    EXPECT_LT(errors[0], 0.7 * before);
    EXPECT_LT(errors[1], 0.7 * before);
    EXPECT_LT(errors[1], 1.05 * errors[0]);  // inputs differ much in size: order should not harm
  }
}

// Optimal brain quantization in a fixed order, one column after the other, with the inverse of what
// is left made anew each time.
at::Tensor round_one_by_one(const at::Tensor& weight,
                            const at::Tensor& moments,
                            const Scheme& scheme,
                            double damping) {
  const std::int64_t in = weight.size(1);
  const at::Tensor damped =
      moments + damping * moments.diagonal().mean() * at::eye(in, at::kDouble);
  const QuantizedTensor nearest = quantize_weight(weight, scheme, at::kFloat);
  const at::Tensor scale = nearest.scale.repeat_interleave(in / nearest.scale.size(1), 1);
  at::Tensor left = weight.to(at::kDouble), codes = at::empty({weight.size(0), in});
  for (std::int64_t i = 0; i < in; ++i) {
    const Grid grid{scale.select(1, i), {}};
    const at::Tensor code = quantize(left.select(1, i).to(at::kFloat), grid, scheme);
    codes.select(1, i).copy_(code);
    if (i + 1 == in) break;
    const at::Tensor inverse = at::inverse(damped.slice(0, i).slice(1, i));
    const at::Tensor error = (left.select(1, i) - dequantize(code, grid)) / inverse[0][0];
    left.slice(1, i + 1).sub_(error.unsqueeze(1) * inverse[0].slice(0, 1));
  }
  return codes.to(at::kChar);
}

TEST(Gptq, IsTheAlgorithmWithoutBlocks) {
  const at::Tensor weight = random_tensor({16, 192}, 5);  // more than one block of columns
  const at::Tensor moments = moments_of(make_inputs(400, 192, 6));
  const Scheme scheme{.bits = 4, .granularity = Granularity::kGroup, .group_size = 32};
  const at::Tensor want = round_one_by_one(weight, moments, scheme, 0.01);
  const at::Tensor got =
      gptq(weight, moments, scheme, at::kFloat, {.damping = 0.01, .act_order = false}).codes;
  // Float32 sums may take a value over a tie, and what follows in its row may differ then.
  EXPECT_GT((got == want).to(at::kFloat).mean().item<double>(), 0.99);
}

TEST(Gptq, InputsThatAreNeverUsedAreRoundedToNearest) {
  const at::Tensor weight = random_tensor({8, 64}, 7);
  at::Tensor x = make_inputs(200, 64, 8);
  x.select(1, 5).zero_();
  const Scheme scheme{.bits = 4};
  const QuantizedTensor rounded = gptq(weight, moments_of(x), scheme, at::kFloat);
  EXPECT_TRUE(at::equal(rounded.codes.select(1, 5),
                        quantize_weight(weight, scheme, at::kFloat).codes.select(1, 5)));
}

TEST(Gptq, FewSamplesAreDampedAndNoNumbersRefused) {
  const at::Tensor weight = random_tensor({8, 64}, 9);
  const Scheme scheme{.bits = 4};
  EXPECT_NO_THROW(gptq(weight, moments_of(make_inputs(3, 64, 10)), scheme, at::kFloat));
  const at::Tensor moments =
      at::full({64, 64}, std::numeric_limits<double>::infinity(), at::kDouble);
  EXPECT_THROW(gptq(weight, moments, scheme, at::kFloat), Error);
}

TEST(Gptq, DoesNotDependOnTheNumberOfThreads) {
  const at::Tensor weight = random_tensor({64, 256}, 11), x = make_inputs(300, 256, 12);
  const Scheme scheme{.bits = 4};
  std::vector<at::Tensor> codes;
  for (const int threads : {1, 2}) {
    set_thread_count(threads);
    codes.push_back(gptq(weight, moments_of(x), scheme, at::kFloat).codes);
  }
  set_thread_count(0);
  EXPECT_TRUE(at::equal(codes[0], codes[1]));
}

}  // namespace
}  // namespace qvlm
