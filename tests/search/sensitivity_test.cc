// What rounding a few linears does to the answers, against a whole model with just these rounded.
#include "search/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/checkpoint_weights.h"
#include "model/rounded_weights.h"
#include "search/tiny_study.h"

namespace qvlm {
namespace {

LinearSchemes schemes_of(const std::vector<std::string>& linears, int bits) {
  LinearSchemes schemes;
  for (const std::string& name : linears) {
    LinearScheme& scheme = schemes[name];
    scheme.weight.bits = bits;
    scheme.activation = Scheme{.bits = bits, .granularity = Granularity::kToken, .dynamic = true};
  }
  return schemes;
}

class SensitivityTest : public testing::Test {
 protected:
  States decoder_inputs() const {
    std::vector<StreamedSample> samples = study_.samples;
    States states;
    for (const Unit& unit : list_units(study_.config)) {
      if (unit.kind == UnitKind::kDecoderLayer) break;
      run_unit(unit, study_.root, study_.config, samples);
    }
    for (StreamedSample& sample : samples)
      states.push_back(sample.hidden);
    return states;
  }

  // The logits [tokens, vocab] of every sample.
  States run_model(const Weights& root) const {
    std::vector<StreamedSample> samples = study_.samples;
    for (const Unit& unit : list_units(study_.config))
      run_unit(unit, root, study_.config, samples);
    States logits;
    for (StreamedSample& sample : samples)
      logits.push_back(sample.hidden);
    return logits;
  }

  // Mean over the positions before answer tokens of the KL of two models, in double.
  double divergence(const States& reference, const States& result) const {
    double sum = 0.0;
    int count = 0;
    for (std::size_t i = 0; i < reference.size(); ++i) {
      for (std::size_t t = 0; t + 1 < study_.kinds[i].size(); ++t) {
        if (study_.kinds[i][t + 1] != TokenKind::kAnswer) continue;
        const auto row = static_cast<std::int64_t>(t);
        const at::Tensor p = at::softmax(reference[i][row].to(at::kDouble), 0);
        const at::Tensor q = at::softmax(result[i][row].to(at::kDouble), 0);
        sum += (p * (p / q).log()).sum().item<double>();
        ++count;
      }
    }
    return sum / count;
  }

  const TinyStudy study_{"sharded_head_dim"};
  const std::vector<LinearSchemes> variants_ = {
      schemes_of({"decoder.layers.1.self_attn.q_proj", "decoder.layers.1.self_attn.k_proj"}, 3),
      schemes_of({"decoder.layers.1.mlp.down_proj"}, 4),
      schemes_of({"decoder.layers.1.mlp.down_proj"}, 8)};
};

TEST_F(SensitivityTest, IsTheDivergenceOfAModelWithJustTheseLinearsRounded) {
  int forwards = 0;
  Sensitivity sensitivity(study_.root, study_.config, decoder_inputs(), study_.kinds,
                          [&] { ++forwards; });
  sensitivity.advance();
  const std::vector<AnswerEffect> effects = sensitivity.measure(variants_);
  const auto layers = static_cast<int>(study_.config.text.layers);
  EXPECT_EQ(forwards, layers + 1 + static_cast<int>(variants_.size()) * (layers - 1));
  const States floats = run_model(study_.root);
  const auto source = std::make_shared<CheckpointWeights>(study_.checkpoint);
  for (std::size_t i = 0; i < variants_.size(); ++i) {
    const Weights rounded(std::make_shared<RoundedWeights>(source, variants_[i], ReplacedTensors{}),
                          Execution::kPacked);
    const double want = divergence(floats, run_model(rounded));
    EXPECT_GT(want, 0.0);
    // Kernels and simulation sum in different orders: a value near the middle of two codes may fall
    // to the other one, which counts at 8 bits.
    EXPECT_NEAR(effects[i].divergence, want, 1e-2 * want + 1e-9) << i;
  }
  EXPECT_GT(effects[1].divergence, effects[2].divergence);
}

TEST_F(SensitivityTest, DirectionsAreTheDivergenceToSecondOrder) {
  Sensitivity sensitivity(study_.root, study_.config, decoder_inputs(), study_.kinds, {});
  sensitivity.advance();
  const AnswerEffect effect = sensitivity.measure(variants_).back();  // 8 bits: small
  const double half_square = effect.direction.square().sum(-1).mean().item<double>() / 2.0;
  EXPECT_NEAR(half_square, effect.divergence, 0.05 * effect.divergence);
}

TEST(CombineEffectsTest, IsWhatTwoDoTogether) {
  const at::Tensor a = at::tensor({3.0F, 4.0F}).unsqueeze(0);
  const at::Tensor b = at::tensor({4.0F, 3.0F}).unsqueeze(0);
  const auto error = combine_effects({{0.25, a}, {4.0, b}, {0.0, at::zeros({1, 2})}});
  EXPECT_EQ(error[0][0], 0.25);
  EXPECT_EQ(error[1][1], 4.0);
  EXPECT_NEAR(error[0][1], 24.0 / 25.0 * std::sqrt(0.25 * 4.0), 1e-12);
  EXPECT_EQ(error[0][1], error[1][0]);
  EXPECT_EQ(error[0][2], 0.0);
  EXPECT_EQ(combine_effects({{1.0, a}, {1.0, -b}})[0][1], 0.0);
}

TEST_F(SensitivityTest, NeedsAnswers) {
  const std::vector<std::vector<TokenKind>> none(
      study_.samples.size(), std::vector<TokenKind>(study_.samples.front().ids.size()));
  EXPECT_THROW(Sensitivity(study_.root, study_.config, decoder_inputs(), none, {}), Error);
}

}  // namespace
}  // namespace qvlm
