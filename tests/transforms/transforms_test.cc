// Transforms leave the function of a model as it is, and take its outliers away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/checkpoint_weights.h"
#include "model/linear_list.h"
#include "model/llama.h"
#include "model/vlm.h"
#include "support/golden.h"
#include "transforms/massive_channels.h"
#include "transforms/rotate.h"
#include "transforms/scale_search.h"
#include "transforms/smooth.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kCases = fs::path(QVLM_TESTS_DIR) / "data" / "llava";

at::Tensor random_tensor(c10::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kFloat);
}

TEST(RotatedRows, OfInputsAndWeightsLeavesTheirProduct) {
  for (const std::int64_t width : {8, 24, 96, 64}) {
    const Rotation rotation(width, 3);
    const at::Tensor x = random_tensor({5, 2 * width}, 1), w = random_tensor({7, 2 * width}, 2);
    EXPECT_TRUE(at::allclose(at::matmul(rotation.rows(x), rotation.rows(w).t()),
                             at::matmul(x, w.t()), 1e-4, 1e-4))
        << width;
    EXPECT_TRUE(at::allclose(rotation.rows(x).norm(2, 1), x.norm(2, 1), 1e-5)) << width;
    // (x W^T) R = x (R^T W)^T
    const at::Tensor rows = random_tensor({2 * width, 6}, 4), y = random_tensor({3, 6}, 5);
    EXPECT_TRUE(at::allclose(rotation.rows(at::matmul(y, rows.t())),
                             at::matmul(y, rotation.columns(rows).t()), 1e-4, 1e-4))
        << width;
    EXPECT_FALSE(at::allclose(Rotation(width, 4).rows(x), rotation.rows(x)));
  }
}

// 23 places have no matrix of their own; 20 have one, 252 too.
TEST(RotatedRows, LeavePlacesApart) {
  for (const auto& [width, apart] :
       {std::pair(24L, std::vector<std::int64_t>{3}), {256L, {0, 17, 18, 255}}, {2L, {0, 1}}}) {
    const Rotation rotation(width, 3, apart);
    const at::Tensor x = random_tensor({5, width}, 1), w = random_tensor({7, width}, 2);
    const at::Tensor turned = rotation.rows(x);
    EXPECT_TRUE(
        at::allclose(at::matmul(turned, rotation.rows(w).t()), at::matmul(x, w.t()), 1e-4, 1e-4))
        << width;
    std::int64_t same = 0;
    for (std::int64_t place = 0; place < width; ++place)
      same += at::equal(turned.select(1, place), x.select(1, place)) ? 1 : 0;
    EXPECT_EQ(same, std::ssize(apart)) << width;
    for (const std::int64_t place : apart)
      EXPECT_TRUE(at::equal(turned.select(1, place), x.select(1, place))) << place;
  }
}

// 90 is large, too, and read as the others are.
TEST(MassiveChannels, HoldATwentiethOfTheTokensBehindTheFirstAndAreReadLittle) {
  MassiveChannels channels;
  EXPECT_TRUE(channels.find().empty());
  at::Tensor reader = random_tensor({20, 256}, 8);
  for (const std::int64_t channel : {3, 7, 40, 100})
    reader.select(1, channel).mul_(0.3);
  channels.add_reader(reader);
  channels.add_reader(7.0 * reader);
  for (const std::uint64_t seed : {1, 2}) {
    at::Tensor states = random_tensor({9, 256}, seed);
    states.select(1, 40).add_(30.0);
    states.select(1, 7).mul_(20.0);
    states.select(1, 90).add_(30.0);
    states[0][100] = 1e6;
    channels.add(states);
  }
  EXPECT_THAT(channels.find(), testing::ElementsAre(7, 40));
}

template <typename Inputs>
auto& input_of(Inputs& inputs, const std::string& linear) {
  return inputs.at(static_cast<std::size_t>(DecoderLayer::input_of(linear)));
}

// alpha: nothing, it is searched for the schemes.
TensorMaps smooth_all(const ModelConfig& config,
                      const WeightSource& weights,
                      const MeasuredInputs& inputs,
                      std::optional<double> alpha,
                      const LinearSchemes& schemes = {},
                      const Smoothing& smoothing = {}) {
  TensorMaps maps;
  for (std::int64_t layer = 0; layer < config.text.layers; ++layer) {
    const Alphas alphas = alpha ? same_alphas(config, *alpha, smoothing)
                                : search_alphas(config, weights, layer, inputs, schemes, smoothing);
    maps.merge(smooth_layer(config, weights, layer, inputs, alphas, smoothing));
  }
  return maps;
}

class TransformsTest : public testing::TestWithParam<std::string> {
 protected:
  TransformsTest()
      : checkpoint_(Checkpoint::open(kCases / GetParam())),
        config_(load_model_config(checkpoint_)),
        weights_(std::make_shared<TransformedWeights>(
            std::make_shared<CheckpointWeights>(checkpoint_))) {}

  at::Tensor logits() const {
    const Vlm model = Vlm::load(Weights(weights_, Execution::kFloat), config_);
    const Golden golden(kCases / GetParam() / "golden.safetensors");
    const std::vector<std::int32_t> ids = golden.ids("prompt0.input_ids");
    KvCache cache(config_.text, static_cast<std::int64_t>(ids.size()));
    return model.forward(model.embed(ids, {model.encode_image(golden.get("prompt0.pixel_values"))}),
                         cache, LogitsOf::kAll);
  }
  // Of float32 weights only sums are rounded otherwise; of bfloat16 ones each weight is.
  double tolerance() const {
    const bool single = checkpoint_.get_tensor("decoder.norm.weight").dtype == DType::kF32;
    return single ? 2e-5 : 0.03;
  }
  // Any statistics will do.
  TensorMaps smoothing(double alpha) const {
    return smooth_all(config_, *weights_, inputs(), alpha);
  }
  MeasuredInputs inputs() const {
    MeasuredInputs inputs(DecoderLayer::kInputs);
    for (const LinearShape& linear : list_linears(config_)) {
      if (!linear.name.starts_with("decoder.layers.0.")) continue;
      MeasuredInput& input = input_of(inputs, linear.name);
      input.rows = random_tensor({24, linear.in}, 9).exp();
      input.rows.select(1, 3).mul_(30.0);  // an outlier, or there would be nothing to move
      input.statistics.add(input.rows);
    }
    return inputs;
  }
  LinearSchemes schemes(int bits) const {
    LinearSchemes schemes;
    for (const LinearShape& linear : list_linears(config_)) {
      if (!linear.name.starts_with("decoder.layers.")) continue;
      LinearScheme& scheme = schemes[linear.name];
      scheme.weight.bits = bits;
      scheme.activation = Scheme{.bits = bits, .granularity = Granularity::kToken, .dynamic = true};
    }
    return schemes;
  }

  Checkpoint checkpoint_;
  ModelConfig config_;
  std::shared_ptr<TransformedWeights> weights_;
};

TEST_P(TransformsTest, KeepTheFunctionOfTheModel) {
  const at::Tensor before = logits();
  weights_->add(smoothing(0.5));
  const at::Tensor gain =
      weights_->load("decoder.layers.0.input_layernorm.weight", {config_.text.hidden_size});
  EXPECT_FALSE(at::equal(gain.to(at::kFloat), at::ones_like(gain, at::kFloat)));
  EXPECT_LT(relative_difference(logits(), before), tolerance());
  if (config_.tied_head) return;
  weights_->add(make_rotation(config_, *weights_, {}));
  EXPECT_LT(relative_difference(logits(), before), tolerance());
  EXPECT_TRUE(weights_->changed().contains("decoder.embed_tokens.weight"));
  for (const char* norm : {"decoder.norm.weight", "decoder.layers.0.input_layernorm.weight"}) {
    const at::Tensor ones = weights_->load(norm, {config_.text.hidden_size}).to(at::kFloat);
    EXPECT_TRUE(at::equal(ones, at::ones_like(ones))) << norm;
  }
}

TEST_P(TransformsTest, SearchedScalesKeepTheFunctionToo) {
  const at::Tensor before = logits();
  const TensorMaps smoothed = smooth_all(config_, *weights_, inputs(), std::nullopt, schemes(4));
  const TensorMaps protected_weights =
      smooth_all(config_, *weights_, inputs(), std::nullopt, schemes(4), {ScaleRule::kAwq});
  EXPECT_FALSE(smoothed.empty());
  EXPECT_FALSE(protected_weights.empty());
  weights_->add(smoothed);
  EXPECT_LT(relative_difference(logits(), before), tolerance());
  weights_->add(protected_weights);
  EXPECT_LT(relative_difference(logits(), before), tolerance());
}

// Every input's scales are the best of those that were tried, none among them.
TEST_P(TransformsTest, SearchedScalesAreTheBest) {
  const MeasuredInputs measured = inputs();
  const LinearSchemes quantized = schemes(4);
  const TensorMaps maps = smooth_all(config_, *weights_, measured, std::nullopt, quantized);
  for (const LinearShape& linear : list_linears(config_)) {
    if (!linear.name.ends_with("down_proj")) continue;
    const ScaleSearch search(*weights_, {linear}, quantized, input_of(measured, linear.name).rows);
    const auto found = maps.find(linear.name + ".weight");
    const at::Tensor scales = found == maps.end() ? at::Tensor() : found->second.in_scale;
    const double error = search.error(scales);
    EXPECT_LE(error, search.error({}));
    for (const double alpha : {0.0, 0.25, 0.5, 0.75, 1.0}) {
      const TensorMaps fixed = smooth_all(config_, *weights_, measured, alpha);
      EXPECT_LE(error, search.error(fixed.at(linear.name + ".weight").in_scale)) << alpha;
    }
  }
}

// What rounding the gains would do to the function is left to the weights.
TEST_P(TransformsTest, GainsAreDividedExactly) {
  const TensorMaps maps = smoothing(0.7);
  for (const auto& [name, map] : maps) {
    if (!name.ends_with("layernorm.weight")) continue;
    const at::Tensor gain = weights_->load(name, {config_.text.hidden_size});
    const at::Tensor exact = map.apply(gain.to(at::kFloat));
    const at::Tensor stored = exact.to(gain.scalar_type()).to(at::kFloat);
    EXPECT_TRUE(at::allclose(stored, exact, 1e-6, 0.0)) << name;
  }
}

// A rotation of the residual stream would take gains back into the weights.
TEST_P(TransformsTest, BeforeARotationNormsAreLeftAlone) {
  const RotateOptions rotation;
  const TensorMaps maps = smooth_all(config_, *weights_, inputs(), std::nullopt, schemes(4),
                                     {ScaleRule::kSmoothQuant, rotation});
  EXPECT_TRUE(maps.contains("decoder.layers.0.mlp.down_proj.weight"));
  EXPECT_EQ(maps.contains("decoder.layers.0.input_layernorm.weight"), config_.tied_head);
  const at::Tensor before = logits();
  weights_->add(maps);
  weights_->add(make_rotation(config_, *weights_, rotation));
  EXPECT_LT(relative_difference(logits(), before), tolerance());
}

// Channels that the rotation leaves keep their gains, which smoothing makes smaller; no other does.
TEST_P(TransformsTest, MassiveChannelsAreSmoothedAndNotTurned) {
  if (config_.tied_head) GTEST_SKIP() << "its stream is not turned";
  const RotateOptions rotation{.massive_apart = true};
  const std::vector<std::int64_t> massive = {3, 5};
  const Smoothing smoothing{ScaleRule::kSmoothQuant, rotation, massive};
  const at::Tensor before = logits();
  const std::string norm = "decoder.layers.0.input_layernorm.weight";
  const std::int64_t hidden = config_.text.hidden_size;
  const at::Tensor gain = weights_->load(norm, {hidden}).to(at::kFloat);
  weights_->add(smooth_all(config_, *weights_, inputs(), std::nullopt, schemes(4), smoothing));
  weights_->add(make_rotation(config_, *weights_, rotation, massive));
  EXPECT_LT(relative_difference(logits(), before), tolerance());
  const at::Tensor left = weights_->load(norm, {hidden}).to(at::kFloat);
  EXPECT_LT(left[3].abs().item<float>(), 0.5f * gain[3].abs().item<float>());  // is the outlier
  EXPECT_LE(left[5].abs().item<float>(), gain[5].abs().item<float>());
  EXPECT_NE(left[5].item<float>(), 1.0f);
  for (std::int64_t channel = 0; channel < hidden; ++channel) {
    if (channel == 3 || channel == 5) continue;
    EXPECT_EQ(left[channel].item<float>(), 1.0f) << channel;
  }
}

// What is searched for them is the best of what was tried behind the rotation, gains folded.
TEST_P(TransformsTest, ScalesOfMassiveChannelsAreTheBest) {
  if (config_.tied_head) GTEST_SKIP() << "its stream is not turned";
  const RotateOptions rotation{.massive_apart = true};
  const std::vector<std::int64_t> massive = {3};
  const std::string mlp = "decoder.layers.0.mlp.";
  std::vector<LinearShape> linears = list_linears(config_);
  std::erase_if(linears, [&](const LinearShape& linear) {
    return linear.name != mlp + "gate_proj" && linear.name != mlp + "up_proj";
  });
  const MeasuredInputs measured = inputs();
  const ScaleSearch search(*weights_, linears, schemes(4),
                           input_of(measured, linears.front().name).rows,
                           stream_rotation(config_, rotation, massive));
  const at::Tensor gain =
      weights_->load("decoder.layers.0.post_attention_layernorm.weight", {config_.text.hidden_size})
          .to(at::kFloat);
  const auto error = [&](const std::optional<double>& alpha) {
    const TensorMaps maps = smooth_all(config_, *weights_, measured, alpha, schemes(4),
                                       {ScaleRule::kSmoothQuant, rotation, massive});
    at::Tensor scales = gain.clone();
    scales[3] = maps.at(mlp + "up_proj.weight").in_scale[3];
    return search.error(scales);
  };
  const double searched = error(std::nullopt);
  for (const double alpha : {0.25, 0.5, 0.75, 1.0})
    EXPECT_LE(searched, error(alpha) * (1 + 1e-6)) << alpha;
  EXPECT_LT(searched, error(0.0));
}

using TiedTest = TransformsTest;

TEST_P(TiedTest, HeadIsNotTurned) {
  EXPECT_THROW(make_rotation(config_, *weights_, {.residual_stream = true}), Error);
  EXPECT_THROW(make_rotation(config_, *weights_, {.values = false, .down_input = false}), Error);
  const at::Tensor before = logits();
  weights_->add(make_rotation(config_, *weights_, {}));
  EXPECT_FALSE(weights_->changed().contains("decoder.embed_tokens.weight"));
  EXPECT_LT(relative_difference(logits(), before), tolerance());
}

INSTANTIATE_TEST_SUITE_P(Models,
                         TransformsTest,
                         testing::Values("biases_bf16",
                                         "full_two_layers",
                                         "hub_default",
                                         "newest_tied",
                                         "runtime_gqa",
                                         "sharded_head_dim"));
INSTANTIATE_TEST_SUITE_P(Models, TiedTest, testing::Values("newest_tied"));

// Source of one layer's tensors, with a channel of the residual stream far above the others.
TEST(Rotation, SpreadsAChannelOverAll) {
  const Rotation rotation(256, 0);
  at::Tensor x = random_tensor({16, 256}, 6);
  x.select(1, 17).mul_(100);
  const auto peak = [](const at::Tensor& rows) {
    return (rows.abs().amax(1) / rows.square().mean(1).sqrt()).mean().item<double>();
  };
  EXPECT_GT(peak(x), 10.0);
  EXPECT_LT(peak(rotation.rows(x)), 3.5);
}

TEST(Smoothing, MovesLargeChannelsIntoWeights) {
  const Checkpoint checkpoint = Checkpoint::open(kCases / "hub_default");
  const ModelConfig config = load_model_config(checkpoint);
  const CheckpointWeights weights(checkpoint);
  MeasuredInputs inputs(DecoderLayer::kInputs);
  for (const LinearShape& linear : list_linears(config)) {
    if (!linear.name.starts_with("decoder.layers.0.")) continue;
    at::Tensor x = at::ones({2, linear.in});
    x.select(1, 3).fill_(-100);
    input_of(inputs, linear.name).statistics.add(x);
  }
  const TensorMaps maps = smooth_all(config, weights, inputs, 1.0);
  // With alpha 1 all channels become equally large: the scale is the channel's largest magnitude.
  const at::Tensor scale = maps.at("decoder.layers.1.mlp.gate_proj.weight").in_scale;
  EXPECT_FLOAT_EQ(scale[3].item<float>(), 100.0f);
  EXPECT_FLOAT_EQ(scale[4].item<float>(), 1.0f);
  EXPECT_FLOAT_EQ(
      maps.at("decoder.layers.1.post_attention_layernorm.weight").out_scale[3].item<float>(),
      0.01f);
  EXPECT_FALSE(maps.contains("projector.linear_1.weight"));
}

}  // namespace
}  // namespace qvlm
