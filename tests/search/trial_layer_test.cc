// A layer under trial is the layer that will be loaded: its float run is the model's, its quantized
// run is that of the schemes it announces.
#include <gtest/gtest.h>

#include "base/parallel.h"
#include "model/checkpoint_weights.h"
#include "model/known_models.h"
#include "model/linear_list.h"
#include "model/rounded_weights.h"
#include "model/synthetic_weights.h"
#include "search/trial_layer.h"
#include "support/golden.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(QVLM_TESTS_DIR) / "data" / "llava" / "hub_default";
const RoundingOptions kGptq{.method = RoundingMethod::kGptq};

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

// Linears of one input may round it differently: each is as if the others did as it does.
TEST_P(TrialLayerTest, EveryLinearSeesItsOwnActivations) {
  const std::string q = unit_.name + ".self_attn.q_proj", k = unit_.name + ".self_attn.k_proj";
  LinearSchemes eight = schemes_, mixed = schemes_;
  for (auto& [name, scheme] : eight)
    scheme.activation->bits = 8;
  mixed.at(q) = eight.at(q);
  const auto run = [&](const LinearSchemes& schemes) {
    TrialLayer layer(unit_, floats_, config_, schemes);
    layer.measure_scales(states_, {1.0});
    const LayerClips clips(DecoderLayer::kInputs);
    RoundedLinears codes =
        layer.round_by_gptq(states_, InputWeights(DecoderLayer::kInputs), clips, kGptq);
    return std::pair(std::move(codes), layer.schemes(clips));
  };
  const auto [codes, own] = run(mixed);
  const auto [fours, four_schemes] = run(schemes_);
  const auto [eights, eight_schemes] = run(eight);
  EXPECT_EQ(codes.at(q).codes, eights.at(q).codes);
  EXPECT_EQ(codes.at(k).codes, fours.at(k).codes);
  EXPECT_NE(fours.at(q).codes, eights.at(q).codes);
  EXPECT_EQ(own.at(q).input_scale, eight_schemes.at(q).input_scale);
  EXPECT_EQ(own.at(k).input_scale, four_schemes.at(k).input_scale);
}

// What tokens count at one input changes the codes of the linears behind it, and of no others.
TEST_P(TrialLayerTest, TokensCountByInput) {
  const auto run = [&](const InputWeights& weights) {
    TrialLayer layer(unit_, floats_, config_, schemes_);
    layer.measure_scales(states_, {1.0});
    return layer.round_by_gptq(states_, weights, LayerClips(DecoderLayer::kInputs), kGptq);
  };
  InputWeights weights(DecoderLayer::kInputs);
  const RoundedLinears alike = run(weights);
  const int input = DecoderLayer::input_of(unit_.name + ".self_attn.o_proj");
  for (const at::Tensor& state : states_)
    weights[static_cast<std::size_t>(input)].push_back(at::arange(state.size(0)).to(at::kFloat));
  const RoundedLinears weighed = run(weights);
  for (const auto& [name, linear] : alike)
    EXPECT_EQ(linear.codes == weighed.at(name).codes, !name.ends_with("o_proj")) << name;
}

TEST_P(TrialLayerTest, SampledTokensAreNoFirstOnes) {
  const TrialLayer layer(unit_, floats_, config_, schemes_);
  States states = states_;
  for (at::Tensor& state : states)
    state.select(0, 0).fill_(0.0f);  // so their norm is 0 too
  for (const std::int64_t wanted : {4, 9, 1000}) {
    const at::Tensor rows = layer.sample_inputs(states, wanted).front();
    EXPECT_GT(rows.size(0), 0);
    EXPECT_LE(rows.size(0), wanted);
    EXPECT_TRUE((rows.abs().sum(1) > 0).all().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Activations,
                         TrialLayerTest,
                         testing::Values(Granularity::kToken,
                                         Granularity::kTensor,
                                         Granularity::kChannel));

// Wide enough for LibTorch to split sums over threads where it may.
TEST(WideLayer, IsRoundedAlikeOnAnyNumberOfThreads) {
  ModelConfig config = make_known_config("llava-1.5-7b", 1);
  config.text.heads = config.text.kv_heads = 8;
  config.text.head_dim = 128;
  config.text.hidden_size = 1024;
  config.text.intermediate_size = 1536;
  const auto weights = std::make_shared<SyntheticWeights>(std::map<std::string, LinearScheme>{}, 1);
  const Weights root(weights, Execution::kFloat);
  const Unit unit = decoder_units(config).front();
  LinearSchemes schemes;
  for (const LinearShape& linear : list_linears(config)) {
    if (linear.name.starts_with(unit.name))
      schemes[linear.name] = {{.bits = 4}, activation_scheme(Granularity::kToken), {}};
  }
  at::manual_seed(7);
  const States states = {at::randn({40, 1024}), at::randn({33, 1024}), at::randn({65, 1024})};
  const auto round = [&] {
    TrialLayer layer(unit, root, config, schemes);
    const LayerClips clips(DecoderLayer::kInputs);
    RoundedLinears codes =
        layer.round_by_gptq(states, InputWeights(DecoderLayer::kInputs), clips, kGptq);
    return std::pair(std::move(codes), layer.run(states, clips).front());
  };
  const auto [many, output] = round();
  const int threads = thread_count();
  set_thread_count(1);
  const auto [one, alone] = round();
  set_thread_count(threads);
  for (const auto& [name, codes] : many)
    EXPECT_EQ(codes.codes, one.at(name).codes) << name;
  EXPECT_TRUE(at::equal(output, alone));
}

}  // namespace
}  // namespace qvlm
