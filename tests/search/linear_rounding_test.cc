// Linears of a layer rounded by data, on a layer of two, one behind the other.
#include "search/linear_rounding.h"

#include <gtest/gtest.h>

#include "support/golden.h"

namespace qvlm {
namespace {

constexpr std::int64_t kWidth = 16;
constexpr std::size_t kSamples = 3;

class LinearRoundingTest : public testing::Test {
 protected:
  LinearRoundingTest() {
    at::manual_seed(1);
    for (std::size_t i = 0; i < kSamples; ++i)
      samples_.push_back(at::randn({5 + static_cast<std::int64_t>(i), kWidth}) + 0.5);
    const LinearScheme scheme{{.bits = 2, .granularity = Granularity::kChannel}, {}, {}};
    for (std::size_t input = 0; input < 2; ++input) {
      linears_.push_back(
          {at::randn({kWidth, kWidth}), at::randn({kWidth}), at::kFloat, scheme, input});
    }
  }

  static at::Tensor between(const at::Tensor& x) { return at::relu(x); }

  void run(std::size_t sample, const std::vector<Linear>& linears) const {
    linears[1].forward(between(linears[0].forward(samples_[sample])));
  }
  RunWith run_with() const {
    return [this](std::size_t sample, const std::vector<Linear>& linears) { run(sample, linears); };
  }

  std::vector<at::Tensor> samples_;
  std::vector<LinearToRound> linears_;
};

// The second linear's is measured behind the first, on its codes and with its new bias.
TEST_F(LinearRoundingTest, CorrectedBiasesKeepMeansBehindEachOther) {
  const std::vector<QuantizedTensor> codes =
      round_linears(linears_, kSamples, run_with(), {}, {.method = RoundingMethod::kNearest});
  const std::vector<at::Tensor> biases = correct_biases(linears_, codes, kSamples, run_with());
  ASSERT_EQ(biases.size(), 2U);
  at::Tensor x = at::cat(samples_);
  for (std::size_t i = 0; i < 2; ++i) {
    const at::Tensor seen = x.to(at::kBFloat16).to(at::kFloat);  // no activation scheme
    const at::Tensor weight = codes[i].dequantize();
    const at::Tensor wanted = at::linear(seen, linears_[i].weight, linears_[i].bias).mean(0);
    const at::Tensor got = at::linear(seen, weight, biases[i]).mean(0);
    const at::Tensor before = at::linear(seen, weight, linears_[i].bias).mean(0);
    EXPECT_LT(relative_difference(got, wanted), 1e-4) << i;
    EXPECT_GT(relative_difference(before, wanted), 1e-2) << i;
    x = between(at::linear(seen, weight, biases[i]));
  }
}

TEST_F(LinearRoundingTest, WithoutABiasThereIsNothingToCorrect) {
  linears_[1].bias.reset();
  const std::vector<QuantizedTensor> codes =
      round_linears(linears_, kSamples, run_with(), {}, {.method = RoundingMethod::kNearest});
  const std::vector<at::Tensor> biases = correct_biases(linears_, codes, kSamples, run_with());
  EXPECT_TRUE(biases.at(0).defined());
  EXPECT_FALSE(biases.at(1).defined());
}

TEST_F(LinearRoundingTest, GptqHasTheSmallerErrorAtTheOutput) {
  const auto error = [&](RoundingMethod method) {
    const at::Tensor x = at::cat(samples_);
    const QuantizedTensor codes =
        round_linears(linears_, kSamples, run_with(), {}, {.method = method}).front();
    return relative_difference(at::linear(x, codes.dequantize()),
                               at::linear(x, linears_.front().weight));
  };
  EXPECT_LT(error(RoundingMethod::kGptq), 0.8 * error(RoundingMethod::kNearest));
}

}  // namespace
}  // namespace qvlm
