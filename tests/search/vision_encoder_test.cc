// The gradient of the vision encoder's loss against differences of the loss and against one graph
// built of the whole model; what the optimization does with it.
#include "search/vision_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "calib/entropy_grid.h"
#include "model/functional.h"
#include "model/linear_list.h"
#include "search/wide_weights.h"
#include "support/golden.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;

constexpr std::size_t kAnswerTokens = 4;

VisionEncoderOptions no_terms() {
  VisionEncoderOptions options;
  options.entropy_weight = options.error_weight = options.answer_weight = 0.0;
  options.tower_weight = options.output_weight = 0.0;
  return options;
}

class VisionEncoderTest : public testing::TestWithParam<std::string> {
 protected:
  VisionEncoderTest()
      : folder_(fs::path(QVLM_TESTS_DIR) / "data" / "llava" / name()),
        checkpoint_(Checkpoint::open(folder_)),
        config_(load_model_config(checkpoint_)),
        root_(checkpoint_, Execution::kFloat) {
    const Golden golden(folder_ / "golden.safetensors");
    at::manual_seed(3);
    for (int i = 0; i < 4; ++i) {
      const std::string prompt = "prompt" + std::to_string(i % 2) + ".";
      const at::Tensor pixels = golden.get(prompt + "pixel_values");
      samples_.push_back({.pixels = i < 2 ? pixels : pixels + 0.5 * at::randn(pixels.sizes()),
                          .ids = golden.ids(prompt + "input_ids")});
      std::vector<TokenKind> kinds(samples_.back().ids.size(), TokenKind::kText);
      std::fill(kinds.end() - kAnswerTokens, kinds.end(), TokenKind::kAnswer);
      kinds_.push_back(kinds);
    }
    quantize(4, 0.7);
  }

  virtual std::string name() const { return GetParam(); }

  // All linears of tower and projector.
  void quantize(int bits, double clip) {
    for (const LinearShape& linear : list_linears(config_)) {
      if (!linear.name.starts_with("vision_tower.") && !linear.name.starts_with("projector."))
        continue;
      const Scheme weight{.bits = bits, .granularity = Granularity::kChannel, .clip_ratio = clip};
      Scheme activation = weight;
      activation.granularity = Granularity::kToken;
      activation.dynamic = true;
      schemes_[linear.name] = {weight, activation, {}};
    }
  }

  VisionEncoderStudy study(const VisionEncoderOptions& options) const {
    return {root_, config_, schemes_, samples_, kinds_, options, 0.25, {}};
  }

  static Batch batch() { return {0, 1, 2, 3}; }

  fs::path folder_;
  Checkpoint checkpoint_;
  ModelConfig config_;
  Weights root_;
  LinearSchemes schemes_;
  std::vector<StreamedSample> samples_;
  std::vector<std::vector<TokenKind>> kinds_;
};

// The loss in one graph, built of the parts of the model without the classes under test.
class WholeGraph {
 public:
  WholeGraph(const VisionEncoderStudy& study,
             const std::vector<Parameter>& parameters,
             CodeRounding rounding)
      : study_(study),
        wide_(std::make_shared<WideWeights>(study.root), Execution::kFloat),
        rounding_(rounding) {
    for (const Parameter& parameter : parameters)
      leaves_[parameter.name] = parameter.logarithm.detach().clone().set_requires_grad(true);
  }

  at::Tensor loss(const std::vector<double>& weights) const;
  at::Tensor gradient(const std::string& name) const { return leaves_.at(name).grad(); }

 private:
  at::Tensor ratio(const std::string& name) const { return leaves_.at(name).exp().to(at::kFloat); }
  at::Tensor storage_like(const std::string& linear, std::int64_t out, std::int64_t in) const {
    return study_.root.linear(linear, in, out, true).dense_weight();
  }
  Linear round(const std::string& name, const at::Tensor& bias, const InputRounding& input,
               const at::Tensor& clip) const {
    const at::Tensor stored = find_stored(name);
    return {round_weight(stored.to(at::kFloat), clip, study_.schemes.at(name).weight,
                         stored.scalar_type(), rounding_),
            bias, input};
  }
  at::Tensor find_stored(const std::string& name) const {
    for (const LinearShape& linear : list_linears(study_.config))
      if (linear.name == name) return study_.root.get_stored(name + ".weight", {linear.out, linear.in});
    return {};
  }

  at::Tensor run_tower(const at::Tensor& pixels, bool quantized) const;
  at::Tensor project(const at::Tensor& features, bool quantized) const;
  std::vector<at::Tensor> run_decoder(const StreamedSample& sample, const at::Tensor& images) const;
  at::Tensor error(const std::vector<at::Tensor>& got,
                   const std::vector<at::Tensor>& want,
                   std::int64_t first) const;

  const VisionEncoderStudy& study_;
  Weights wide_;
  CodeRounding rounding_;
  std::map<std::string, at::Tensor> leaves_;
};

at::Tensor WholeGraph::run_tower(const at::Tensor& pixels, bool quantized) const {
  const VisionConfig& config = study_.config.vision;
  std::vector<at::Tensor> states = {
      VisionEmbedding(wide_.scope("vision_tower"), config).forward(pixels)};
  for (std::int64_t i = 0; i < needed_vision_layers(study_.config); ++i) {
    const std::string scope = "vision_tower.encoder.layers." + std::to_string(i);
    VisionLayer layer(wide_.scope(scope), config);
    std::map<int, InputRounding> inputs;
    for (const NamedLinear& place : layer.linears()) {
      if (!quantized) continue;
      const std::string name = scope + "." + place.name;
      InputRounding& input = inputs[place.input];
      if (!input)
        input = make_learned_rounding(*study_.schemes.at(name).activation, ratio(name + ".input"),
                                      rounding_);
      *place.linear = round(name, place.linear->bias(), input, ratio(name + ".weight"));
    }
    for (const auto& [gain_name, gain] : layer.norm_gains()) {
      const std::string name = scope + "." + gain_name;
      if (quantized && leaves_.contains(name)) *gain = *gain * ratio(name);
    }
    states.push_back(layer.forward(states.back()));
  }
  return select_features(states, study_.config);
}

at::Tensor WholeGraph::project(const at::Tensor& features, bool quantized) const {
  std::vector<Linear> linears;
  for (const LinearShape& shape : list_linears(study_.config)) {
    if (!shape.name.starts_with("projector.")) continue;
    linears.push_back(wide_.linear(shape.name, shape.in, shape.out, study_.config.projector_bias));
    if (!quantized) continue;
    const Scheme& activation = *study_.schemes.at(shape.name).activation;
    const at::Tensor clip = at::scalar_tensor(activation.clip_ratio, at::kFloat);
    linears.back() = round(shape.name, linears.back().bias(),
                           make_learned_rounding(activation, clip, rounding_), clip);
  }
  return linears[1].forward(
      linears[0].forward(features, {.function = study_.config.projector_activation}));
}

std::vector<at::Tensor> WholeGraph::run_decoder(const StreamedSample& sample,
                                                const at::Tensor& images) const {
  const TextConfig& text = study_.config.text;
  const Rope rope(text.rope, text.head_dim);
  const at::Tensor ids = at::tensor(sample.ids, at::kLong);
  const at::Tensor table =
      wide_.get("decoder.embed_tokens.weight", {text.vocab_size, text.hidden_size});
  const at::Tensor places = (ids == study_.config.image_token_id).nonzero().flatten();
  std::vector<at::Tensor> states = {table.index_select(0, ids).index_copy(0, places, images)};
  for (std::int64_t i = 0; i < text.layers; ++i) {
    const DecoderLayer layer(wide_.scope("decoder.layers." + std::to_string(i)), text);
    states.push_back(layer.forward(states.back(), rope.angles(0, ids.size(0))));
  }
  return states;
}

at::Tensor WholeGraph::error(const std::vector<at::Tensor>& got,
                             const std::vector<at::Tensor>& want,
                             std::int64_t first) const {
  std::vector<at::Tensor> errors;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const at::Tensor reference = want[i].slice(0, first);
    errors.push_back((got[i].slice(0, first) - reference).square().sum(-1) /
                     reference.square().sum(-1));
  }
  return at::cat(errors).mean();
}

at::Tensor WholeGraph::loss(const std::vector<double>& weights) const {
  std::vector<at::Tensor> images, float_images, outputs, float_outputs, logits, answers;
  std::vector<std::vector<at::Tensor>> flat(weights.size() + 1), exact(weights.size() + 1);
  const Head head(wide_, study_.config);
  for (const StreamedSample& sample : study_.samples) {
    images.push_back(project(run_tower(sample.pixels, true), true));
    float_images.push_back(project(run_tower(sample.pixels, false), false));
    const auto states = run_decoder(sample, images.back());
    const auto float_states = run_decoder(sample, float_images.back());
    for (std::size_t k = 0; k < flat.size(); ++k) {
      flat[k].push_back(states[k + 1].flatten());
      exact[k].push_back(float_states[k + 1]);
    }
    outputs.push_back(states.back());
    float_outputs.push_back(float_states.back());
    const auto tokens = static_cast<std::int64_t>(sample.ids.size());
    const auto count = static_cast<std::int64_t>(kAnswerTokens);
    logits.push_back(head.forward(states.back()).slice(0, tokens - count - 1, tokens - 1));
    answers.push_back(at::tensor(sample.ids, at::kLong).slice(0, tokens - count));
  }
  const VisionEncoderOptions& options = study_.options;
  at::Tensor total = options.error_weight * (options.tower_weight * error(images, float_images, 0) +
                                             options.output_weight * error(outputs, float_outputs, 1));
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const at::Tensor entropy = conditional_entropy(
        joint_table(at::cat(flat[k]), make_entropy_grid(exact[k], study_.tau), at::cat(flat[k + 1]),
                    make_entropy_grid(exact[k + 1], study_.tau)));
    total = total + options.entropy_weight * weights[k] * entropy;
  }
  return total +
         options.answer_weight * at::cross_entropy_loss(at::cat(logits), at::cat(answers));
}

VisionEncoderOptions all_terms() {
  VisionEncoderOptions options;
  options.entropy_weight = 0.3;
  options.error_weight = 2.0;
  options.tower_weight = 0.7;
  options.output_weight = 1.5;
  options.answer_weight = 0.2;
  options.norm_gains = true;
  return options;
}

// Float32 on both sides, sums in another order: 1e-6 of what is added up, some of which cancels.
TEST_P(VisionEncoderTest, RecomputedGradientIsThatOfTheWholeGraph) {
  const VisionEncoderOptions options = all_terms();
  const VisionEncoderStudy study = this->study(options);
  LearnedTower tower(root_, config_, {schemes_, /*norm_gains=*/true});
  VisionEncoderLoss loss(study, tower);
  const LossTerms terms = loss.evaluate(batch());
  const WholeGraph graph(study, tower.parameters(), CodeRounding::kNearest);
  const at::Tensor want = graph.loss(loss.weights());
  want.backward();
  EXPECT_NEAR(terms.total, want.item<double>(), 1e-5 * want.item<double>());
  at::Tensor squares = at::zeros({}, at::kDouble);
  for (const Parameter& parameter : tower.parameters())
    squares += graph.gradient(parameter.name).square().sum();
  const double norm = squares.sqrt().item<double>();
  for (const Parameter& parameter : tower.parameters()) {
    const at::Tensor difference = parameter.gradient - graph.gradient(parameter.name);
    std::printf("%s %g %g\n", parameter.name.c_str(), difference.abs().max().item<double>() / norm, graph.gradient(parameter.name).norm().item<double>() / norm);
    EXPECT_LE(difference.abs().max().item<double>(), 1e-4 * norm) << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Llava,
                         VisionEncoderTest,
                         testing::Values("hub_default", "full_two_layers", "partial_tied",
                                         "biases_bf16"),
                         [](const auto& param_info) { return param_info.param; });

// One term of the loss by itself.
struct Term {
  std::string name;
  double VisionEncoderOptions::* weight;
  double LossTerms::* value;
};

VisionEncoderOptions only(const Term& term) {
  VisionEncoderOptions options = no_terms();
  options.error_weight = 1.0;
  options.*term.weight = 1.0;
  return options;
}

class TermTest : public VisionEncoderTest, public testing::WithParamInterface<Term> {
};

}  // namespace
}  // namespace qvlm
