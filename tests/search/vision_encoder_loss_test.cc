// The gradient of the vision encoder's loss against one graph built of the whole model and against
// differences of the loss; its terms one by one.
#include "search/vision_encoder_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>

#include "base/random.h"
#include "calib/entropy_grid.h"
#include "search/tiny_study.h"
#include "search/wide_weights.h"

namespace qvlm {
namespace {

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
  // Norms of the gradient of the output error at the outputs of the layers but the last, divided by
  // their mean.
  std::vector<double> weights() const;

 private:
  at::Tensor ratio(const std::string& name) const { return leaves_.at(name).exp().to(at::kFloat); }
  Linear round(const std::string& name,
               const at::Tensor& bias,
               const InputRounding& input,
               const at::Tensor& clip) const {
    const at::Tensor stored = find_stored(name);
    return {round_weight(stored.to(at::kFloat), clip, study_.schemes.at(name).weight,
                         stored.scalar_type(), rounding_),
            bias, input};
  }
  at::Tensor find_stored(const std::string& name) const {
    for (const LinearShape& linear : list_linears(study_.config))
      if (linear.name == name)
        return study_.root.get_stored(name + ".weight", {linear.out, linear.in});
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
    logits.push_back(head.forward(states.back()).slice(0, tokens - kAnswerTokens - 1, tokens - 1));
    answers.push_back(at::tensor(sample.ids, at::kLong).slice(0, tokens - kAnswerTokens));
  }
  const VisionEncoderOptions& options = study_.options;
  at::Tensor total =
      options.error_weight * (options.tower_weight * error(images, float_images, 0) +
                              options.output_weight * error(outputs, float_outputs, 1));
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const at::Tensor entropy = conditional_entropy(
        joint_table(at::cat(flat[k]), make_entropy_grid(exact[k], study_.tau), at::cat(flat[k + 1]),
                    make_entropy_grid(exact[k + 1], study_.tau)));
    total = total + options.entropy_weight * weights[k] * entropy;
  }
  return total + options.answer_weight * at::cross_entropy_loss(at::cat(logits), at::cat(answers));
}

std::vector<double> WholeGraph::weights() const {
  std::vector<std::vector<at::Tensor>> states;
  std::vector<at::Tensor> outputs, float_outputs;
  for (const StreamedSample& sample : study_.samples) {
    states.push_back(run_decoder(sample, project(run_tower(sample.pixels, true), true)));
    for (const at::Tensor& state : states.back())
      state.retain_grad();
    outputs.push_back(states.back().back());
    float_outputs.push_back(
        run_decoder(sample, project(run_tower(sample.pixels, false), false)).back());
  }
  error(outputs, float_outputs, 1).backward();
  std::vector<double> norms;
  double sum = 0.0;
  for (std::size_t k = 1; k + 1 < states.front().size(); ++k) {
    double square = 0.0;
    for (const auto& sample : states)
      square += sample[k].grad().square().sum().item<double>();
    norms.push_back(std::sqrt(square));
    sum += norms.back();
  }
  for (double& norm : norms)
    norm *= static_cast<double>(norms.size()) / sum;
  return norms;
}

VisionEncoderOptions all_terms() {
  VisionEncoderOptions options;
  options.entropy_weight = 0.3;
  options.error_weight = 2.0;
  options.tower_weight = 0.7;
  options.output_weight = 1.5;
  options.answer_weight = 0.2;
  return options;
}

class ModelTest : public testing::TestWithParam<std::string> {
 protected:
  const TinyStudy tiny_{GetParam(), 0.7};
};

TEST_P(ModelTest, EntropiesAreWeightedByWhatTheOutputErrorDependsOn) {
  const VisionEncoderOptions options = all_terms();
  const VisionEncoderStudy study = tiny_.with(options);
  LearnedTower tower(tiny_.root, tiny_.config, {tiny_.schemes});
  const VisionEncoderLoss loss(study, tower);
  const std::vector<double>& weights = loss.weights();
  ASSERT_EQ(weights.size(), static_cast<std::size_t>(tiny_.config.text.layers) - 1);
  double sum = 0.0;
  for (const double weight : weights)
    sum += weight;
  EXPECT_NEAR(sum, static_cast<double>(weights.size()), 1e-12);
  const std::vector<double> want =
      WholeGraph(study, tower.parameters(), CodeRounding::kNearest).weights();
  for (std::size_t k = 0; k < weights.size(); ++k)
    EXPECT_NEAR(weights[k], want[k], 1e-5);
}

// Float32 on both sides, sums in another order: some 1e-6 of what is added up, parts of which
// cancel.
TEST_P(ModelTest, RecomputedGradientIsThatOfTheWholeGraph) {
  const VisionEncoderOptions options = all_terms();
  const VisionEncoderStudy study = tiny_.with(options);
  LearnedTower tower(tiny_.root, tiny_.config, {tiny_.schemes, /*norm_gains=*/true});
  VisionEncoderLoss loss(study, tower);
  const double got = loss.evaluate(kAllSamples).total;
  const WholeGraph graph(study, tower.parameters(), CodeRounding::kNearest);
  const at::Tensor want = graph.loss(loss.weights());
  want.backward();
  EXPECT_NEAR(got, want.item<double>(), 1e-5 * want.item<double>());
  double squares = 0.0;
  for (const Parameter& parameter : tower.parameters())
    squares += graph.gradient(parameter.name).square().sum().item<double>();
  for (const Parameter& parameter : tower.parameters()) {
    const at::Tensor difference = parameter.gradient - graph.gradient(parameter.name);
    EXPECT_LE(difference.abs().max().item<double>(), 1e-4 * std::sqrt(squares)) << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Llava,
    ModelTest,
    testing::Values("hub_default", "full_two_layers", "partial_tied", "biases_bf16"),
    [](const auto& param_info) { return param_info.param; });

// One term of the loss by itself.
struct Term {
  std::string name;
  double VisionEncoderOptions::*weight;
  double VisionLoss::*value;
};

class TermTest : public testing::TestWithParam<Term> {
 protected:
  VisionEncoderOptions options(double weight) const {
    VisionEncoderOptions options = no_terms();
    options.tower_weight = options.output_weight = 0.0;
    options.error_weight = 1.0;
    options.*GetParam().weight = weight;
    return options;
  }

  const TinyStudy tiny_{"partial_tied", 0.7};
};

double dot(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += (a[i] * b[i]).sum().item<double>();
  return sum;
}

// A loss as a function of how far its parameters are moved.
class MovedLoss {
 public:
  MovedLoss(const TinyStudy& tiny, const VisionEncoderOptions& options)
      : tower_(tiny.root, tiny.config, {tiny.schemes, /*norm_gains=*/true, CodeRounding::kNone}),
        loss_(tiny.with(options), tower_),
        start_(tower_.parameters()) {}

  std::vector<at::Tensor> random_direction() const {
    std::vector<at::Tensor> direction;
    for (const Parameter& parameter : start_)
      direction.push_back(at::randn(parameter.logarithm.sizes(), at::kDouble));
    return direction;
  }
  double at(const std::vector<at::Tensor>& direction, double length) {
    tower_.parameters() = start_;
    for (std::size_t i = 0; i < start_.size(); ++i) {
      tower_.parameters()[i].logarithm = start_[i].logarithm + length * direction[i];
      tower_.parameters()[i].gradient = at::zeros_like(start_[i].gradient);
    }
    return loss_.evaluate(kAllSamples).total;
  }
  std::vector<at::Tensor> gradient() {  // where it was asked for last
    std::vector<at::Tensor> gradient;
    for (const Parameter& parameter : tower_.parameters())
      gradient.push_back(parameter.gradient);
    return gradient;
  }

 private:
  LearnedTower tower_;
  VisionEncoderLoss loss_;
  std::vector<Parameter> start_;
};

// With codes that stay real numbers the loss has a gradient, but for kinks where a value comes to
// the end of the codes. Of the gradient's norm, central differences of this step err by some 1e-3:
// float32 (a loss of 5 is known to 5e-7, which is 2.5e-3 over two steps and a norm of 1.6), and the
// few values that pass an end within the step.
TEST_P(TermTest, GradientIsTheLimitOfDifferences) {
  constexpr double kStep = 1e-4;
  MovedLoss loss(tiny_, options(1.0));
  at::manual_seed(1);
  for (int i = 0; i < 3; ++i) {
    const std::vector<at::Tensor> direction = loss.random_direction();
    const double difference =
        (loss.at(direction, kStep) - loss.at(direction, -kStep)) / (2 * kStep);
    loss.at(direction, 0.0);
    const std::vector<at::Tensor> gradient = loss.gradient();
    const double norm = std::sqrt(dot(gradient, gradient));
    EXPECT_GT(norm, 1e-3);
    EXPECT_NEAR(difference, dot(gradient, direction), 1e-2 * norm);
  }
}

TEST_P(TermTest, IsTheOnlyOneWhereOthersHaveNoWeight) {
  double before = 0.0;
  std::vector<at::Tensor> gradient;
  for (const double weight : {2.0, -1.0}) {
    const VisionEncoderOptions options = this->options(weight);
    const VisionEncoderStudy study = tiny_.with(options);
    LearnedTower tower(tiny_.root, tiny_.config, {tiny_.schemes});
    const VisionLoss terms = VisionEncoderLoss(study, tower).evaluate(kAllSamples);
    EXPECT_GT(terms.*GetParam().value, 0.0);
    EXPECT_DOUBLE_EQ(terms.total, weight * terms.*GetParam().value);
    EXPECT_DOUBLE_EQ(terms.entropy + terms.tower + terms.output + terms.answer,
                     terms.*GetParam().value);
    if (weight > 0) before = terms.*GetParam().value;
    EXPECT_EQ(terms.*GetParam().value, before);  // what is measured does not depend on the weight
    for (std::size_t i = 0; i < tower.parameters().size(); ++i) {
      const at::Tensor& own = tower.parameters()[i].gradient;
      if (weight > 0) {
        gradient.push_back(own);
      } else {
        EXPECT_LE((own * -2 - gradient[i]).abs().item<double>(),
                  1e-5 * gradient[i].abs().item<double>() + 1e-9);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Loss,
    TermTest,
    testing::Values(Term{"tower", &VisionEncoderOptions::tower_weight, &VisionLoss::tower},
                    Term{"output", &VisionEncoderOptions::output_weight, &VisionLoss::output},
                    Term{"entropy", &VisionEncoderOptions::entropy_weight, &VisionLoss::entropy},
                    Term{"answer", &VisionEncoderOptions::answer_weight, &VisionLoss::answer}),
    [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace qvlm
