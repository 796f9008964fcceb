// GPTQ against the published algorithm written out, and what it promises beside that.
#include "rounding/gptq.h"

#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <limits>
#include <utility>

#include "base/parallel.h"
#include "io/scheme.h"
#include "quant/weight_error.h"
#include "rounding/second_moment.h"

namespace qvlm {
namespace {

struct Case {
  int bits;
  bool symmetric;
  Granularity granularity;
  int group_size;
  double clip_ratio = 1.0;
};

class GptqTest : public testing::TestWithParam<Case> {
 protected:
  GptqTest()
      : scheme_{.bits = GetParam().bits,
                .symmetric = GetParam().symmetric,
                .granularity = GetParam().granularity,
                .group_size = GetParam().group_size,
                .clip_ratio = GetParam().clip_ratio} {
    at::manual_seed(7);
  }
  Scheme scheme_;
};

// Inputs of which a few directions carry most, as those of decoders do: rank in / 8 plus noise.
at::Tensor correlated_moment(std::int64_t in) {
  const at::Tensor tokens =
      at::mm(at::randn({1024, in / 8}), at::randn({in / 8, in})) + 0.5 * at::randn({1024, in});
  SecondMoment moment;
  moment.add(tokens);
  return moment.matrix();
}

bool same_grids(const QuantizedTensor& left, const QuantizedTensor& right) {
  if (left.zero_point.defined() != right.zero_point.defined()) return false;
  return at::equal(left.scale, right.scale) &&
         (!left.zero_point.defined() || at::equal(left.zero_point, right.zero_point));
}

// The grid of one column of a weight, [out].
Grid column_grid(const QuantizedTensor& tensor, std::int64_t column) {
  const std::int64_t group = column * tensor.scale.size(1) / tensor.codes.size(1);
  return {tensor.scale.select(1, group), tensor.zero_point.defined()
                                             ? tensor.zero_point.select(1, group).to(at::kFloat)
                                             : at::Tensor()};
}

// Optimal brain quantization in a given order, as printed: after each column all that are left move
// by -(error / [H^-1]_jj) [H^-1]_j, and H^-1 loses column j by Gaussian elimination. Float64.
at::Tensor written_out(const at::Tensor& weight,
                       const at::Tensor& moment,
                       const QuantizedTensor& nearest,
                       const at::Tensor& order,
                       double damping) {
  const std::int64_t in = weight.size(1);
  const at::Tensor damped = moment + damping * moment.diagonal().mean() * at::eye(in, at::kDouble);
  at::Tensor inverse = at::linalg_inv(damped), left = weight.to(at::kDouble);
  at::Tensor codes = at::zeros_like(nearest.codes);
  for (std::int64_t step = 0; step < in; ++step) {
    const std::int64_t j = order[step].item<std::int64_t>();
    const Grid grid = column_grid(nearest, j);
    const at::Tensor rounded = quantize(left.select(1, j), grid, nearest.scheme);
    codes.select(1, j).copy_(rounded);
    const at::Tensor error = left.select(1, j) - dequantize(rounded, grid);
    left = left - at::outer(error / inverse[j][j], inverse[j]);
    inverse = inverse - at::outer(inverse.select(1, j), inverse[j]) / inverse[j][j];
    inverse.select(0, j).zero_();
    inverse.select(1, j).zero_();
  }
  return codes;
}

TEST_P(GptqTest, IsThePublishedAlgorithm) {
  const at::Tensor weight = at::randn({40, 256}), moment = correlated_moment(256);
  for (const bool act_order : {false, true}) {
    const at::Tensor order =
        act_order ? at::argsort(moment.diagonal(), 0, true) : at::arange(256, at::kLong);
    const QuantizedTensor nearest = quantize_weight(weight, scheme_, at::kBFloat16);
    set_thread_count(1);  // thousands of small steps: threads would only wait for each other
    const at::Tensor want = written_out(weight, moment, nearest, order, 0.01);
    set_thread_count(0);
    const QuantizedTensor got = gptq(weight, moment, scheme_, at::kBFloat16,
                                     {.damping = 0.01, .act_order = act_order, .block = 48});
    // Targets in float32 are off by in * 2^-24 = 2e-5 steps at worst, so at most 1 code in 30000
    // falls to the other side, and takes the rest of its row with it: 0.3 of the 40 rows. With a
    // wrong order, group or sign all are lost.
    const at::Tensor wrong_rows = (got.codes != want).any(1);
    EXPECT_LE(wrong_rows.sum().item<std::int64_t>(), 2) << "act_order " << act_order;
    EXPECT_FALSE(at::equal(want, nearest.codes));
  }
}

TEST_P(GptqTest, WhiteInputsGiveNearest) {
  const at::Tensor weight = at::randn({300, 256});
  const QuantizedTensor nearest = quantize_weight(weight, scheme_, at::kHalf);
  for (const double power : {1.0, 1e-6}) {
    const QuantizedTensor got = gptq(weight, power * at::eye(256, at::kDouble), scheme_, at::kHalf);
    EXPECT_TRUE(at::equal(got.codes, nearest.codes));
    EXPECT_TRUE(same_grids(got, nearest));
    EXPECT_EQ(got.scheme, scheme_);
  }
}

TEST_P(GptqTest, CorrelatedInputsLoseLess) {
  const at::Tensor weight = at::randn({64, 256}), moment = correlated_moment(256);
  const QuantizedTensor nearest = quantize_weight(weight, scheme_, at::kBFloat16);
  const QuantizedTensor got = gptq(weight, moment, scheme_, at::kBFloat16);
  EXPECT_TRUE(same_grids(got, nearest));
  EXPECT_GE(got.codes.min().item<std::int64_t>(), lowest_code(scheme_));
  EXPECT_LE(got.codes.max().item<std::int64_t>(), highest_code(scheme_));
  // About 0.06 of it here, at all bits.
  EXPECT_LT(output_error(weight, got, moment), 0.2 * output_error(weight, nearest, moment));
}

INSTANTIATE_TEST_SUITE_P(Schemes,
                         GptqTest,
                         testing::Values(Case{4, true, Granularity::kGroup, 32},
                                         Case{4, false, Granularity::kGroup, 128},
                                         Case{4, true, Granularity::kGroup, 64, 0.9},
                                         Case{3, true, Granularity::kChannel, 0},
                                         Case{3, false, Granularity::kChannel, 0},
                                         Case{8, true, Granularity::kTensor, 0}));

const Scheme kGrouped{.bits = 4, .granularity = Granularity::kGroup, .group_size = 32};

TEST(GptqOrderTest, StrongColumnsFirstIsNoWorse) {
  at::manual_seed(11);
  const at::Tensor weight = at::randn({128, 256});
  const at::Tensor size =
      at::logspace(-1.5, 1.5, 256, 10.0, at::kDouble).index_select(0, at::randperm(256));
  const at::Tensor moment = correlated_moment(256) * at::outer(size, size);
  const auto error = [&](bool act_order) {
    return output_error(
        weight, gptq(weight, moment, kGrouped, at::kFloat, {.act_order = act_order}), moment);
  };
  // No tolerance: it is about a tenth. Strong columns that come last have nothing to make up for
  // them.
  EXPECT_LT(error(true), error(false));
}

TEST(GptqInputTest, DeadInputsStayNearest) {
  at::manual_seed(13);
  const at::Tensor weight = at::randn({20, 128});
  const at::Tensor alive = (at::arange(128).remainder(5) != 0).to(at::kDouble);
  const at::Tensor moment = correlated_moment(128) * at::outer(alive, alive);
  const at::Tensor dead = (alive == 0).nonzero().squeeze(1);
  const QuantizedTensor nearest = quantize_weight(weight, kGrouped, at::kFloat);
  for (const bool act_order : {false, true}) {
    const QuantizedTensor got =
        gptq(weight, moment, kGrouped, at::kFloat, {.act_order = act_order});
    EXPECT_TRUE(at::equal(got.codes.index_select(1, dead), nearest.codes.index_select(1, dead)));
    EXPECT_FALSE(at::equal(got.codes, nearest.codes));
  }
  const at::Tensor none = at::zeros({128, 128}, at::kDouble);
  EXPECT_TRUE(at::equal(gptq(weight, none, kGrouped, at::kFloat).codes, nearest.codes));
  EXPECT_EQ(output_error(weight, nearest, none), 0.0);
}

TEST(GptqInputTest, IsTheSameForAnyThreadsAndMode) {
  at::manual_seed(17);
  const at::Tensor weight = at::randn({600, 512}), moment = correlated_moment(512);
  const auto round = [&](int threads) {
    set_thread_count(threads);
    const QuantizedTensor got = gptq(weight, moment, kGrouped, at::kFloat);
    const double error = output_error(weight, got, moment);
    set_thread_count(0);
    return std::pair(got.codes, error);
  };
  const auto [one, error] = round(1);
  const auto [two, same_error] = round(2);
  EXPECT_TRUE(at::equal(one, two));
  EXPECT_EQ(error, same_error);
  {
    const c10::InferenceMode inference;
    EXPECT_TRUE(at::equal(round(3).first, one));
  }
  const at::Tensor with_gradient = weight.clone().requires_grad_();
  EXPECT_TRUE(at::equal(gptq(with_gradient, moment, kGrouped, at::kFloat).codes, one));
}

// A matrix that no inputs have, with an eigenvalue of -3 % of the mean diagonal: 1 % damping is not
// enough for it, 10 % is; nothing is for -20 times that.
TEST(GptqInputTest, DampingGrowsUntilItIsEnough) {
  const at::Tensor weight = at::randn({4, 64});
  const auto moment = [](double lowest) {
    at::Tensor matrix = at::eye(64, at::kDouble);
    matrix.index_put_({0, 1}, 1 - lowest);
    matrix.index_put_({1, 0}, 1 - lowest);
    return matrix;
  };
  EXPECT_NO_THROW(gptq(weight, moment(-0.03), {.bits = 4}, at::kFloat));
  EXPECT_THROW(gptq(weight, moment(-20), {.bits = 4}, at::kFloat), Error);
}

TEST(GptqInputTest, RefusesWhatItCannotRound) {
  const at::Tensor weight = at::ones({4, 64}), moment = at::eye(64, at::kDouble);
  const auto kind_of = [&](const at::Tensor& matrix, const GptqOptions& options = {}) {
    try {
      gptq(weight, matrix, {.bits = 4}, at::kFloat, options);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  };
  EXPECT_EQ(kind_of(at::eye(63, at::kDouble)), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(moment * std::numeric_limits<double>::infinity()), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(-moment), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(moment, {.damping = 0.0}), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(moment, {.block = 0}), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(moment), ErrorKind::kInternal);  // that is: none
}

TEST(OutputErrorTest, IsTheErrorOfTheOutputs) {
  at::manual_seed(19);
  const at::Tensor weight = at::randn({300, 320}), inputs = at::randn({500, 320});
  SecondMoment moment;
  moment.add(inputs);
  const QuantizedTensor nearest = quantize_weight(weight, {.bits = 4}, at::kFloat);
  const at::Tensor outputs = at::mm(inputs, weight.t()).to(at::kDouble);
  const at::Tensor lost = at::mm(inputs, (weight - nearest.dequantize()).t()).to(at::kDouble);
  const double want = (lost.square().sum() / outputs.square().sum()).item<double>();
  // Float32 outputs: sums of 320 products, 320 * 2^-24 off at worst.
  EXPECT_NEAR(output_error(weight, nearest, moment.matrix()), want, 320 * 0x1p-24 * want);
}

}  // namespace
}  // namespace qvlm
