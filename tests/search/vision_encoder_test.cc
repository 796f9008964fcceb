// What the optimization of the vision encoder does to a tiny model.
#include "search/vision_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "model/checkpoint_weights.h"
#include "model/projector.h"
#include "model/rounded_weights.h"
#include "model/synthetic_weights.h"
#include "search/adam.h"
#include "search/tiny_study.h"

namespace qvlm {
namespace {

using ::testing::HasSubstr;

VisionEncoderOptions entropy_only(double weight) {
  VisionEncoderOptions options = no_terms();
  options.entropy_weight = weight;
  options.epochs = 12;
  options.batch = 4;
  options.rate = 0.05;
  return options;
}

// All terms, two steps an epoch.
VisionEncoderOptions short_run() {
  VisionEncoderOptions options;
  options.entropy_weight = 0.05;
  options.answer_weight = 0.1;
  options.epochs = 2;
  options.batch = 3;
  options.norm_gains = true;
  options.held_out = false;
  return options;
}

void expect_refused(const VisionEncoderStudy& study, ErrorKind kind, const std::string& word) {
  try {
    optimize_vision_encoder(study);
    ADD_FAILURE() << "not refused: " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

// Of the last four epochs.
double mean_entropy(const VisionEncoderOutcome& outcome) {
  double sum = 0.0;
  for (std::size_t i = outcome.report.epochs.size() - 4; i < outcome.report.epochs.size(); ++i)
    sum += outcome.report.epochs[i].entropy;
  return sum / 4;
}

class VisionEncoderTest : public testing::Test {
 protected:
  VisionEncoderOutcome optimize(const VisionEncoderOptions& options) const {
    return optimize_vision_encoder(tiny_.with(options));
  }

  TinyStudy tiny_{"full_two_layers"};
};

TEST_F(VisionEncoderTest, OnlyTheRightSignLowersEntropy) {
  const VisionEncoderOutcome right = optimize(entropy_only(1.0));
  const VisionEncoderOutcome wrong = optimize(entropy_only(-1.0));
  const double start =
      right.report.epochs.front().entropy;  // one batch an epoch: nothing has moved yet
  EXPECT_DOUBLE_EQ(wrong.report.epochs.front().entropy, start);
  EXPECT_LT(mean_entropy(right), start);
  EXPECT_GT(mean_entropy(wrong), start);
}

TEST_F(VisionEncoderTest, ClipsStayWithinTheirLimits) {
  VisionEncoderOptions options = no_terms();
  options.error_weight = 1.0;
  options.output_weight = 0.0;
  options.epochs = 3;
  options.rate = 1.0;  // every step would leave them
  bool moved = false;
  for (const auto& [name, scheme] : optimize(options).schemes) {
    for (const double clip : {scheme.weight.clip_ratio, scheme.activation->clip_ratio}) {
      EXPECT_GE(clip, kLowestClip - 1e-7) << name;
      EXPECT_LE(clip, 1.0) << name;
      moved = moved || clip < 1.0;
    }
  }
  EXPECT_TRUE(moved);
}

VisionEncoderOptions errors_only(double rate) {
  VisionEncoderOptions options = no_terms();
  options.error_weight = 1.0;
  options.epochs = 8;
  options.rate = rate;
  return options;
}

// Samples 0 and 2 are learned from, 1 and 3 set aside.
TEST_F(VisionEncoderTest, JudgesOnSamplesSetAside) {
  VisionEncoderOptions options = errors_only(1.0);  // leaves all clips at their lowest
  options.held_out = true;
  const VisionEncoderStudy study = tiny_.with(options);
  const VisionEncoderOutcome outcome = optimize_vision_encoder(study);
  EXPECT_FALSE(outcome.report.kept);
  EXPECT_GT(outcome.report.held_out_end->total, outcome.report.held_out_start->total);
  EXPECT_TRUE(outcome.schemes.empty());
  LearnedTower start(tiny_.root, tiny_.config, {tiny_.schemes});
  VisionEncoderLoss loss(study, start);
  EXPECT_DOUBLE_EQ(outcome.report.held_out_start->total, loss.evaluate({1, 3}).total);
  EXPECT_NE(outcome.report.held_out_start->total, loss.evaluate({0, 2}).total);
}

// Here those set aside are the ones that were learned from, and it starts where there is much to
// win: from the best clips a step may go either way, by how the CPU rounds sums.
TEST_F(VisionEncoderTest, KeepsWhatHelpsSamplesSetAside) {
  for (const std::size_t i : {1, 3}) {
    tiny_.samples[i] = tiny_.samples[i - 1];
    tiny_.kinds[i] = tiny_.kinds[i - 1];
  }
  for (auto& [name, scheme] : tiny_.schemes)
    scheme.weight.clip_ratio = scheme.activation->clip_ratio = 0.7;
  VisionEncoderOptions options = errors_only(0.02);
  options.held_out = true;
  const VisionEncoderOutcome outcome = optimize(options);
  EXPECT_TRUE(outcome.report.kept);
  EXPECT_LT(outcome.report.held_out_end->total, outcome.report.held_out_start->total);
  const LearnedTower start(tiny_.root, tiny_.config, {tiny_.schemes});
  EXPECT_FALSE(outcome.schemes == start.schemes());
}

TEST_F(VisionEncoderTest, StepsGetSmaller) {
  const VisionEncoderOptions options = errors_only(0.01);  // one step an epoch
  std::vector<std::vector<at::Tensor>> clips = {};
  optimize_vision_encoder(tiny_.with(options), {}, [&](const VisionEncoderState& state) {
    clips.push_back(state.logarithms);
    return true;
  });
  const auto largest_step = [&](std::size_t epoch) {
    double largest = 0.0;
    for (std::size_t i = 0; i < clips[epoch].size(); ++i) {
      const at::Tensor step = clips[epoch][i] - clips[epoch - 1][i];
      largest = std::max(largest, step.abs().max().item<double>());
    }
    return largest;
  };
  ASSERT_EQ(clips.size(), 8U);
  EXPECT_LT(largest_step(7), 0.4 * largest_step(1));
}

TEST_F(VisionEncoderTest, IsTheSameOnAnyNumberOfThreads) {
  const int threads = thread_count();
  std::vector<VisionEncoderOutcome> outcomes;
  for (const int count : {1, 2, 2}) {
    set_thread_count(count);
    outcomes.push_back(optimize(short_run()));
  }
  set_thread_count(threads);
  const VisionEncoderOutcome& first = outcomes.front();
  for (const VisionEncoderOutcome& other : outcomes) {
    EXPECT_EQ(other.schemes, first.schemes);
    for (std::size_t i = 0; i < first.report.epochs.size(); ++i)
      EXPECT_EQ(other.report.epochs[i].total, first.report.epochs[i].total);
    for (const auto& [name, gain] : first.norm_gains)
      EXPECT_TRUE(at::equal(other.norm_gains.at(name), gain)) << name;
  }
}

// Of a layer whose weights LibTorch would sum up in parts, as many as there are threads.
TEST(LearnedLayer, IsTheSameOnAnyNumberOfThreads) {
  const VisionConfig config{.hidden_size = 256, .intermediate_size = 512, .heads = 4};
  const std::map<std::string, LinearScheme> none;
  const Weights root(std::make_shared<SyntheticWeights>(none, 1), Execution::kFloat);
  const LinearScheme scheme{{.bits = 4, .granularity = Granularity::kTensor}, std::nullopt, {}};
  const LinearSchemes schemes = {{"layer.mlp.fc1", scheme}, {"layer.self_attn.v_proj", scheme}};
  std::vector<Parameter> start;
  const LearnedLayer layer("layer", root, config, {schemes, /*norm_gains=*/true}, start);
  at::manual_seed(2);
  const States in = {at::randn({5, 256}), at::randn({5, 256})};
  const States at_out = {at::randn({5, 256}), at::randn({5, 256})};
  const int threads = thread_count();
  std::vector<std::vector<Parameter>> results;
  for (const int count : {1, 2, 3}) {
    set_thread_count(count);
    results.push_back(start);
    for (Parameter& parameter : results.back())
      parameter.gradient = at::zeros_like(parameter.gradient);
    layer.pull_back(in, at_out, results.back());
  }
  set_thread_count(threads);
  for (const std::vector<Parameter>& result : results) {
    for (std::size_t i = 0; i < start.size(); ++i)
      EXPECT_TRUE(at::equal(result[i].gradient, results[0][i].gradient)) << start[i].name;
  }
}

TEST_F(VisionEncoderTest, AnnouncesWhatItMoved) {
  const VisionEncoderOutcome outcome = optimize(short_run());
  EXPECT_EQ(outcome.report.epochs.size(), 2U);
  const std::string layer = "vision_tower.encoder.layers.0.";
  EXPECT_EQ(outcome.norm_gains.size(),
            2 * static_cast<std::size_t>(needed_vision_layers(tiny_.config)));
  const at::Tensor gain =
      tiny_.root.get(layer + "layer_norm1.weight", {tiny_.config.vision.hidden_size});
  const at::Tensor change = outcome.norm_gains.at(layer + "layer_norm1.weight") / gain - 1;
  EXPECT_GT(change.abs().max().item<double>(), 1e-3);
  EXPECT_LT(change.abs().max().item<double>(), 0.1);
  EXPECT_EQ(outcome.schemes.at(layer + "self_attn.q_proj").activation->clip_ratio,
            outcome.schemes.at(layer + "self_attn.k_proj").activation->clip_ratio);
  EXPECT_FALSE(outcome.schemes.contains("projector.linear_1"));  // quantized, not learned
  EXPECT_TRUE(optimize(no_terms()).norm_gains.empty());
}

TEST_F(VisionEncoderTest, CountsItsSteps) {
  VisionEncoderOptions halves = short_run();
  halves.held_out = true;
  for (VisionEncoderOptions options : {short_run(), no_terms(), halves}) {
    options.batch = 3;
    VisionEncoderStudy study = tiny_.with(options);
    std::int64_t steps = 0;
    study.on_step = [&](const std::string&) { ++steps; };
    VisionEncoderState first;
    optimize_vision_encoder(study, {}, [&](const VisionEncoderState& state) {
      if (state.report.epochs.size() == 1) first = state;
      return true;
    });
    EXPECT_EQ(steps, count_steps(study));
    steps = 0;
    optimize_vision_encoder(study, first);
    EXPECT_EQ(steps, count_steps(study, first));
  }
}

// What only text depends on is no business of the tower.
TEST_F(VisionEncoderTest, LeavesOutSamplesWithoutAnImage) {
  const VisionEncoderOutcome before = optimize(short_run());
  tiny_.samples.insert(tiny_.samples.begin(), {.ids = {1, 5, 6}});
  tiny_.kinds.insert(tiny_.kinds.begin(), std::vector<TokenKind>(3, TokenKind::kAnswer));
  EXPECT_EQ(optimize(short_run()).schemes, before.schemes);
}

// The tower that was trained is the one that the schemes describe to everybody else.
TEST_F(VisionEncoderTest, RunsWhatTheSchemesSay) {
  LearnedTower tower(tiny_.root, tiny_.config, {tiny_.schemes});
  Random random(4);
  for (Parameter& parameter : tower.parameters())
    parameter.logarithm = parameter.logarithm + random.uniform() * std::log(kLowestClip);
  LinearSchemes schemes = tiny_.schemes;
  for (const auto& [name, scheme] : tower.schemes())
    schemes[name] = scheme;
  const Weights rounded(std::make_shared<RoundedWeights>(
                            std::make_shared<CheckpointWeights>(tiny_.checkpoint), schemes),
                        Execution::kSimulated);
  const VisionTower quantized(rounded.scope("vision_tower"), tiny_.config);
  const Projector projector(rounded.scope("projector"), tiny_.config);
  const VisionEmbedding embedding(tiny_.root.scope("vision_tower"), tiny_.config.vision);
  // On one thread each, as the tower is: sums are the same, and so are codes.
  const States pixels = {tiny_.samples[0].pixels, tiny_.samples[1].pixels};
  const States embedded =
      map_states(pixels, [&](const at::Tensor& x) { return embedding.forward(x); });
  const States images = map_states(
      pixels, [&](const at::Tensor& x) { return projector.forward(quantized.forward(x)); });
  const VisionTrace trace = tower.run(embedded);
  for (std::size_t i = 0; i < images.size(); ++i)
    EXPECT_TRUE(at::equal(trace.images[i], images[i]));
}

TEST_F(VisionEncoderTest, RefusesWhatItCannotLearnFrom) {
  const VisionEncoderOptions options = no_terms();
  TinyStudy no_images = tiny_;
  for (StreamedSample& sample : no_images.samples)
    sample.pixels.reset();
  expect_refused(no_images.with(options), ErrorKind::kInvalidArgument, "image");
  TinyStudy fewer_kinds = tiny_;
  fewer_kinds.kinds.pop_back();
  expect_refused(fewer_kinds.with(options), ErrorKind::kInvalidArgument, "kinds");
  TinyStudy float_tower = tiny_;
  float_tower.schemes.clear();
  expect_refused(float_tower.with(options), ErrorKind::kInvalidArgument, "no linear");
  for (const std::string name : {"vision_tower.encoder.layers.0.mlp.fc1", "projector.linear_2"}) {
    TinyStudy with_static = tiny_;
    with_static.schemes.at(name).activation->dynamic = false;
    expect_refused(with_static.with(options), ErrorKind::kUnsupported, name);
  }
}

// The first step of Adam is its rate, whatever the gradient; two equal steps are twice that.
TEST(Adam, StepsByItsRate) {
  std::vector<Parameter> parameters = {{"a", at::tensor({-0.5, -0.5}), {}, false},
                                       {"b", at::scalar_tensor(-0.01, at::kDouble), {}, true}};
  for (Parameter& parameter : parameters)
    parameter.logarithm = parameter.logarithm.to(at::kDouble);
  Adam adam;
  for (int i = 0; i < 2; ++i) {
    parameters[0].gradient = at::tensor({3.0, -0.2}, at::kDouble);
    parameters[1].gradient = at::scalar_tensor(-7.0, at::kDouble);
    adam.step(parameters, 0.1);
    EXPECT_EQ(parameters[0].gradient.abs().sum().item<double>(), 0.0);
  }
  const at::Tensor want = at::tensor({-0.7, -0.3}, at::kDouble);
  EXPECT_LE((parameters[0].logarithm - want).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(parameters[1].logarithm.item<double>(), 0.0);  // a clip is at most 1
}

}  // namespace
}  // namespace qvlm
