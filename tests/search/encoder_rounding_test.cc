// Vision tower and projector rounded by data: nearer to the float model than to nearest, means of
// outputs kept, the same on any number of threads.
#include "search/encoder_rounding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "model/checkpoint_weights.h"
#include "model/rounded_weights.h"
#include "model/vit.h"
#include "tiny_study.h"

namespace qvlm {
namespace {

const RoundingOptions kGptq{.method = RoundingMethod::kGptq};
const RoundingOptions kBiases{.bias_correction = true};

class EncoderRoundingTest : public testing::Test {
 protected:
  EncoderRounding round(const RoundingOptions& options) const {
    return round_encoder({floats_, tiny_.config, tiny_.schemes, {}, options}, tiny_.samples);
  }

  // Quantized linears in front of the decoder. Layers above the one whose features are taken never
  // run, and stay nearest.
  std::size_t rounded_linears() const {
    return 6 * static_cast<std::size_t>(needed_vision_layers(tiny_.config)) + 2;
  }

  // Of what the decoder is given, all samples together.
  at::Tensor features(const Weights& root) const {
    std::vector<StreamedSample> running = tiny_.samples;
    for (const Unit& unit : list_units(tiny_.config)) {
      if (unit.kind == UnitKind::kTokenEmbedding) break;
      run_unit(unit, root, tiny_.config, running);
    }
    std::vector<at::Tensor> images;
    for (const StreamedSample& sample : running)
      images.push_back(sample.image);
    return at::cat(images);
  }

  at::Tensor features(const EncoderRounding& rounding) const {
    return features(Weights(
        std::make_shared<RoundedWeights>(floats_, tiny_.schemes, rounding.replaced, rounding.codes),
        Execution::kPacked));
  }

  TinyStudy tiny_{"hub_default"};
  std::shared_ptr<const WeightSource> floats_ =
      std::make_shared<CheckpointWeights>(tiny_.checkpoint);
};

TEST_F(EncoderRoundingTest, GptqIsNearerToTheFloatModel) {
  for (auto& [name, scheme] : tiny_.schemes)
    scheme.activation.reset();
  const at::Tensor exact = features(tiny_.root);
  const auto error = [&](const EncoderRounding& rounding) {
    return relative_difference(features(rounding), exact);
  };
  const EncoderRounding rounded = round(kGptq);
  EXPECT_EQ(rounded.codes.size(), rounded_linears());
  EXPECT_TRUE(rounded.replaced.empty());
  EXPECT_LT(error(rounded), 0.7 * error({}));
}

// Of one linear that is rounded: the mean of its output is that of the unrounded weight.
TEST_F(EncoderRoundingTest, CorrectedBiasesKeepTheMeanOfAnOutput) {
  const std::string layer = "vision_tower.encoder.layers.0.", linear = layer + "self_attn.q_proj";
  const LinearScheme scheme{{.bits = 2, .granularity = Granularity::kChannel}, {}, {}};
  tiny_.schemes = {{linear, scheme}};
  const EncoderRounding rounded = round(kBiases);
  ASSERT_THAT(rounded.replaced, testing::SizeIs(1));

  const std::int64_t hidden = tiny_.config.vision.hidden_size;
  std::vector<StreamedSample> running = tiny_.samples;
  run_unit(list_units(tiny_.config).front(), tiny_.root, tiny_.config, running);
  std::vector<at::Tensor> rows;
  for (const StreamedSample& sample : running)
    rows.push_back(at::layer_norm(
        sample.hidden, {hidden}, tiny_.root.get(layer + "layer_norm1.weight", {hidden}),
        tiny_.root.get(layer + "layer_norm1.bias", {hidden}), tiny_.config.vision.layer_norm_eps));
  const at::Tensor x = at::cat(rows).to(at::kBFloat16).to(at::kFloat);
  const at::Tensor weight = tiny_.root.get(linear + ".weight", {hidden, hidden});
  const at::Tensor bias = tiny_.root.get(linear + ".bias", {hidden});
  const at::Tensor codes = to_quantized_tensor(rounded.codes.at(linear)).dequantize();
  const at::Tensor wanted = at::linear(x, weight, bias).mean(0);
  const at::Tensor got = at::linear(x, codes, rounded.replaced.at(linear + ".bias")).mean(0);
  const at::Tensor before = at::linear(x, codes, bias).mean(0);
  EXPECT_LE((got - wanted).abs().max().item<double>(),
            1e-4 * (before - wanted).abs().max().item<double>());
}

TEST_F(EncoderRoundingTest, CorrectedBiasesLeaveCodesNearest) {
  const EncoderRounding rounded = round(kBiases);
  ASSERT_EQ(rounded.codes.size(), rounded_linears());
  const RoundedWeights nearest(floats_, tiny_.schemes);
  for (const auto& [name, codes] : rounded.codes) {
    const QuantizedWeight wanted = nearest.load_codes(name, codes.out, codes.in);
    EXPECT_EQ(codes.codes, wanted.codes) << name;
    EXPECT_EQ(codes.scales, wanted.scales) << name;
    EXPECT_TRUE(rounded.replaced.contains(name + ".bias")) << name;
  }
}

TEST_F(EncoderRoundingTest, IsTheSameOnAnyNumberOfThreads) {
  RoundingOptions both = kGptq;
  both.bias_correction = true;
  const int threads = thread_count();
  set_thread_count(3);
  const EncoderRounding many = round(both);
  set_thread_count(1);
  const EncoderRounding one = round(both);
  set_thread_count(threads);
  ASSERT_EQ(many.codes.size(), rounded_linears());
  ASSERT_EQ(many.replaced.size(), rounded_linears());
  for (const auto& [name, codes] : many.codes) {
    EXPECT_EQ(codes.codes, one.codes.at(name).codes) << name;
    EXPECT_EQ(codes.scales, one.codes.at(name).scales) << name;
  }
  for (const auto& [name, bias] : many.replaced)
    EXPECT_TRUE(at::equal(bias, one.replaced.at(name))) << name;
}

TEST_F(EncoderRoundingTest, NeedsImages) {
  for (StreamedSample& sample : tiny_.samples)
    sample.pixels.reset();
  try {
    round(kGptq);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("image"));
  }
}

TEST_F(EncoderRoundingTest, StopsAtALayer) {
  int layers = 0;
  const EncoderRounding rounded = round_encoder(
      {floats_, tiny_.config, tiny_.schemes, {}, kGptq}, tiny_.samples, [&] { ++layers; },
      [&] { return layers == 2; });
  EXPECT_TRUE(rounded.stopped);
  EXPECT_EQ(layers, 2);
}

TEST(RoundsEncoder, WhereTowerOrProjectorAreRoundedByData) {
  const LinearScheme scheme;
  const LinearSchemes decoder = {{"decoder.layers.0.mlp.up_proj", scheme}};
  const LinearSchemes projector = {{"projector.linear_1", scheme}};
  EXPECT_FALSE(rounds_encoder(decoder, kGptq));
  EXPECT_FALSE(rounds_encoder(projector, {}));
  EXPECT_TRUE(rounds_encoder(projector, kGptq));
  EXPECT_TRUE(rounds_encoder(projector, kBiases));
}

}  // namespace
}  // namespace qvlm
