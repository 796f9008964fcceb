// A layer under trial is the layer that will be loaded: its float run is the model's, its quantized
// run is that of the schemes it announces.
#include <gtest/gtest.h>

#include "model/checkpoint_weights.h"
#include "model/linear_list.h"
#include "model/rounded_weights.h"
#include "search/trial_layer.h"
#include "support/golden.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(QVLM_TESTS_DIR) / "data" / "llava" / "hub_default";

Scheme activation_scheme(Granularity granularity) {
  return {.bits = 4, .granularity = granularity, .dynamic = granularity == Granularity::kToken};
}

class TrialLayerTest : public testing::TestWithParam<Granularity> {
 protected:
  TrialLayerTest() {
    at::manual_seed(5);
    for (const std::int64_t tokens : {7, 12, 20})
      states_.push_back(at::randn({tokens, config_.text.hidden_size}));
    for (const LinearShape& linear : list_linears(config_)) {
      if (!linear.name.starts_with("decoder.layers.1.")) continue;
      schemes_[linear.name] = {{.bits = 4, .granularity = Granularity::kGroup, .group_size = 32},
                               activation_scheme(GetParam()),
                               {}};
    }
  }

  States run_model(const Weights& root) const {
    const DecoderLayer layer(root.scope(unit_.name), config_.text);
    const Rope rope(config_.text.rope, config_.text.head_dim);
    return map_states(
        states_, [&](const at::Tensor& x) { return layer.forward(x, rope.angles(0, x.size(0))); });
  }

  const Checkpoint checkpoint_ = Checkpoint::open(kModel);
  const ModelConfig config_ = load_model_config(checkpoint_);
  const Weights floats_{checkpoint_, Execution::kFloat};
  const Unit unit_{UnitKind::kDecoderLayer, 1, "decoder.layers.1"};
  LinearSchemes schemes_;
  States states_;
};

TEST_P(TrialLayerTest, FloatRunIsTheModels) {
  const TrialLayer layer(unit_, floats_, config_, schemes_);
  const States got = layer.run_float(states_), want = run_model(floats_);
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(relative_difference(got[i], want[i]), kParity);
}

// Clips one after the other, back and forth, so that nothing is left over from the one before.
TEST_P(TrialLayerTest, QuantizedRunIsThatOfTheSchemes) {
  TrialLayer layer(unit_, floats_, config_, schemes_);
  layer.measure_scales(states_, {1.0, 0.9, 0.7});
  const std::vector<LayerClips> tries = {LayerClips(4, {1.0, 1.0}),
                                         LayerClips(4, {0.9, 1.0}),
                                         {{0.9, 0.8}, {1.0, 1.0}, {0.7, 0.8}, {0.9, 1.0}},
                                         LayerClips(4, {1.0, 1.0})};
  std::vector<States> got;
  for (const LayerClips& clips : tries) {
    got.push_back(layer.run(states_, clips));
    const auto rounded = std::make_shared<RoundedWeights>(
        std::make_shared<CheckpointWeights>(checkpoint_), layer.schemes(clips));
    const States want = run_model(Weights(rounded, Execution::kPacked));
    for (std::size_t i = 0; i < want.size(); ++i)
      EXPECT_TRUE(at::equal(got.back()[i], want[i]));
  }
  EXPECT_TRUE(at::equal(got.front()[0], got.back()[0]));
  EXPECT_FALSE(at::equal(got[0][0], got[1][0]));
  EXPECT_FALSE(at::equal(got[1][0], got[2][0]));
}

// A static scale covers exactly the share it was asked to, per channel or over all.
TEST_P(TrialLayerTest, StaticScalesCoverTheirShare) {
  if (GetParam() == Granularity::kToken) return;  // nothing is stored
  TrialLayer layer(unit_, floats_, config_, schemes_);
  layer.measure_scales(states_, {1.0, 0.9});
  const auto rms =
      floats_.scope(unit_.name).get("input_layernorm.weight", {config_.text.hidden_size});
  const at::Tensor inputs =
      at::rms_norm(at::cat(states_), {config_.text.hidden_size}, rms, config_.text.rms_norm_eps)
          .abs();
  for (const double share : {1.0, 0.9}) {
    const LinearScheme scheme =
        layer.schemes(LayerClips(4, {share, 1.0})).at(unit_.name + ".self_attn.q_proj");
    const at::Tensor limit = at::tensor(scheme.input_scale) * 7.5;
    const at::Tensor inside = (inputs <= limit * (1 + 1e-6)).to(at::kDouble);
    const at::Tensor least =
        GetParam() == Granularity::kTensor ? inside.mean() : inside.mean(0).min();
    EXPECT_GE(least.item<double>(), share - 1e-9);
    EXPECT_LE(inside.mean().item<double>(), share + 0.05);
  }
}

INSTANTIATE_TEST_SUITE_P(Activations,
                         TrialLayerTest,
                         testing::Values(Granularity::kToken,
                                         Granularity::kTensor,
                                         Granularity::kChannel));

}  // namespace
}  // namespace qvlm
