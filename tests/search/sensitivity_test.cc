// What rounding a few linears does to the answers, against a whole model with just these rounded.
#include "search/sensitivity.h"

#include <gtest/gtest.h>

#include <functional>

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

  Sensitivity make(std::function<void()> on_forward) const {
    return {study_.root, study_.config, decoder_inputs(), study_.kinds, 0, std::move(on_forward)};
  }
  Weights rounded(const LinearSchemes& schemes) const {
    const auto source = std::make_shared<CheckpointWeights>(study_.checkpoint);
    return {std::make_shared<RoundedWeights>(source, schemes, ReplacedTensors{}),
            Execution::kPacked};
  }
  std::string last_down_proj() const {
    return "decoder.layers." + std::to_string(study_.config.text.layers - 1) + ".mlp.down_proj";
  }

  static constexpr std::int64_t kPositions = 4 * kAnswerTokens;  // of answers, in four samples
  const TinyStudy study_{"sharded_head_dim"};
  const std::vector<LinearSchemes> variants_ = {
      schemes_of({"decoder.layers.1.self_attn.q_proj", "decoder.layers.1.self_attn.k_proj"}, 3),
      schemes_of({"decoder.layers.1.mlp.down_proj"}, 4),
      schemes_of({"decoder.layers.1.mlp.down_proj"}, 8)};
};

// Chances: 24 draws say a sum of squares to a third or so.
TEST_F(SensitivityTest, IsTheDivergenceOfAModelWithJustTheseLinearsRounded) {
  int forwards = 0;
  Sensitivity sensitivity = make([&] { ++forwards; });
  const auto layers = static_cast<std::size_t>(study_.config.text.layers);
  EXPECT_EQ(sensitivity.layer(), layers - 1);
  while (sensitivity.layer() > 1)
    sensitivity.descend();
  const std::vector<AnswerChange> changes = sensitivity.measure(variants_);
  const auto error = combine_changes(changes, kPositions);
  const States floats = run_model(study_.root);
  std::vector<double> wants;
  for (std::size_t i = 0; i < variants_.size(); ++i) {
    const double want = wants.emplace_back(divergence(floats, run_model(rounded(variants_[i]))));
    EXPECT_GT(want, 0.0);
    EXPECT_GT(error[i][i], want / 1.5) << i;
    EXPECT_LT(error[i][i], want * 1.5) << i;
  }
  LinearSchemes both = variants_[0];
  both.insert(variants_[1].begin(), variants_[1].end());
  const double together = error[0][0] + error[1][1] + 2.0 * error[0][1];
  const double want = divergence(floats, run_model(rounded(both)));
  EXPECT_GT(together, want / 1.5);
  EXPECT_LT(together, want * 1.5);
  // Layer 0 is left out here.
  EXPECT_EQ(forwards,
            static_cast<int>(layers + (layers - 2) * Sensitivity::kForwards + variants_.size()));
}

// What makes it cheap: gradients are taken down the decoder, not changes up.
TEST_F(SensitivityTest, GradientsGoDownAllLayers) {
  Sensitivity sensitivity = make({});
  const LinearSchemes first = schemes_of({"decoder.layers.0.mlp.down_proj"}, 4);
  while (sensitivity.layer() > 0)
    sensitivity.descend();
  const auto error = combine_changes(sensitivity.measure({first}), kPositions);
  const double want = divergence(run_model(study_.root), run_model(rounded(first)));
  EXPECT_GT(error[0][0], want / 1.5);
  EXPECT_LT(error[0][0], want * 1.5);
}

TEST_F(SensitivityTest, SamplesMayBeLookedAtInParts) {
  const Sensitivity whole = make({});
  const std::vector<LinearSchemes> last = {schemes_of({last_down_proj()}, 4)};
  AnswerChange parts;
  for (std::size_t i = 0; i < study_.kinds.size(); ++i) {
    const Sensitivity one(study_.root, study_.config, {decoder_inputs()[i]}, {study_.kinds[i]}, i,
                          {});
    const AnswerChange change = one.measure(last).front();
    parts.insert(parts.end(), change.begin(), change.end());
  }
  EXPECT_EQ(whole.measure(last).front(), parts);
}

TEST(CombineChangesTest, IsWhatTwoDoTogether) {
  constexpr std::size_t kDraws = Sensitivity::kDraws;
  AnswerChange a(kDraws, 2.0), b(kDraws, 1.0), c(kDraws, -1.0), none(kDraws, 0.0);
  const auto error = combine_changes({a, b, c, none}, 2);
  EXPECT_EQ(error[0][0], 1.0);
  EXPECT_EQ(error[1][1], 0.25);
  EXPECT_EQ(error[0][1], 0.5);  // (2 + 1)^2 / 4 = 1 + 0.25 + 2 * 0.5
  EXPECT_EQ(error[0][1], error[1][0]);
  EXPECT_EQ(error[0][2], 0.0);
  EXPECT_EQ(error[3], std::vector<double>(4, 0.0));
}

TEST_F(SensitivityTest, NeedsAnswers) {
  const std::vector<std::vector<TokenKind>> none(
      study_.samples.size(), std::vector<TokenKind>(study_.samples.front().ids.size()));
  EXPECT_THROW(Sensitivity(study_.root, study_.config, decoder_inputs(), none, 0, {}), Error);
}

}  // namespace
}  // namespace qvlm
