#include "search/token_importance.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/parallel.h"
#include "search/answer_logits.h"
#include "search/differentiate.h"
#include "search/float_decoder.h"
#include "search/wide_weights.h"

namespace qvlm {
namespace {

constexpr int kDraws = 2;
static_assert(kImportanceForwards == 1 + 3 * kDraws);

// A layer whose linears leave the tensors they read in `inputs`, with room for gradients.
DecoderLayer watch(const DecoderLayer& layer, std::vector<at::Tensor>& inputs) {
  DecoderLayer watched = layer;
  std::vector<InputRounding> taps(inputs.size());
  for (const NamedLinear& place : watched.linears()) {
    const auto input = static_cast<std::size_t>(place.input);
    if (!taps[input]) {
      taps[input] = make_rounding([&seen = inputs[input]](const at::Tensor& x) {
        x.retain_grad();
        return seen = x;
      });
    }
    *place.linear = Linear(place.linear->dense_weight(), place.linear->bias(), taps[input]);
  }
  return watched;
}

// Down one layer: [draws] gradients of a sample at its output become those at its input, and what
// they are at the inputs of linears on the way is added to `weights`, [inputs] of [tokens].
std::vector<at::Tensor> pull_back_watched(const DecoderLayer& layer,
                                          const RopeAngles& angles,
                                          const at::Tensor& before,
                                          const std::vector<at::Tensor>& gradients,
                                          std::vector<at::Tensor>& weights) {
  std::vector<at::Tensor> below;
  for (const at::Tensor& gradient : gradients) {
    std::vector<at::Tensor> inputs(DecoderLayer::kInputs);
    const DecoderLayer watched = watch(layer, inputs);
    below.push_back(pull_back(before, gradient,
                              [&](const at::Tensor& x) { return watched.forward(x, angles); }));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const at::Tensor squares = inputs[i].grad().square().sum(-1);
      weights[i] = weights[i].defined() ? weights[i] + squares : squares;
    }
  }
  return below;
}

// One part of the samples on its way down.
class Descent {
 public:
  Descent(const Weights& wide, const ModelConfig& config)
      : wide_(wide), config_(config), rope_(config.text.rope, config.text.head_dim) {}

  // Adds what the samples from `first` on give to `importance`, by layer.
  void run(const std::vector<States>& trajectory,
           std::vector<States> gradients,
           std::size_t first,
           std::vector<InputWeights>& importance,
           const std::function<void()>& on_forward) const;

 private:
  const Weights& wide_;
  const ModelConfig& config_;
  Rope rope_;
};

void Descent::run(const std::vector<States>& trajectory,
                  std::vector<States> gradients,
                  std::size_t first,
                  std::vector<InputWeights>& importance,
                  const std::function<void()>& on_forward) const {
  for (std::size_t i = importance.size(); i > 0; --i) {
    const DecoderLayer layer(wide_.scope("decoder.layers." + std::to_string(i - 1)), config_.text);
    const States& before = trajectory[i - 1];
    for_samples(before.size(), [&](std::size_t sample) {
      std::vector<at::Tensor> weights(DecoderLayer::kInputs);
      gradients[sample] = pull_back_watched(layer, rope_.angles(0, before[sample].size(0)),
                                            before[sample], gradients[sample], weights);
      for (std::size_t input = 0; input < weights.size(); ++input)
        importance[i - 1][input][first + sample] = weights[input];
    });
    for (int forward = 0; on_forward && forward < 3 * kDraws; ++forward)
      on_forward();
  }
}

// Adds the even share. Sums are those of one thread after the other.
void share_evenly(std::vector<at::Tensor>& weights) {
  for_each_apart(1, [&](std::int64_t) {
    double sum = 0.0;
    std::int64_t tokens = 0;
    for (const at::Tensor& sample : weights) {
      sum += sample.sum(at::kDouble).item<double>();
      tokens += sample.size(0);
    }
    const double mean = sum / static_cast<double>(std::max<std::int64_t>(tokens, 1));
    for (at::Tensor& sample : weights)
      sample = mean > 0.0 ? sample / mean + kEvenShare : at::ones_like(sample);
  });
}

}  // namespace

std::vector<InputWeights> measure_token_importance(const Weights& root,
                                                   const ModelConfig& config,
                                                   const States& inputs,
                                                   const std::vector<std::vector<TokenKind>>& kinds,
                                                   const std::function<void()>& on_forward) {
  const Weights wide(std::make_shared<WideWeights>(root), Execution::kFloat);
  const FloatDecoder decoder(root, config);
  const Descent descent(wide, config);
  std::vector<InputWeights> importance(decoder.layers(),
                                       InputWeights(DecoderLayer::kInputs, States(inputs.size())));
  for (InputWeights& layer : importance) {
    for (States& samples : layer) {
      for (std::size_t i = 0; i < inputs.size(); ++i)
        samples[i] = at::zeros({inputs[i].size(0)});
    }
  }
  const auto step = static_cast<std::size_t>(thread_count());
  const std::size_t parts = (inputs.size() + step - 1) / step;
  std::size_t calls = 0;
  const auto count = [&] {
    if (++calls % parts == 0 && on_forward) on_forward();
  };
  for (std::size_t first = 0; first < inputs.size(); first += step) {
    const std::size_t end = std::min(first + step, inputs.size());
    const AnswerLogits answers(wide, config, slice(kinds, first, end));
    const std::vector<States> trajectory = decoder.run(slice(inputs, first, end), count);
    descent.run(trajectory, answers.draw_gradients(trajectory.back(), kDraws, first), first,
                importance, count);
  }
  for (InputWeights& layer : importance) {
    for (States& samples : layer)
      share_evenly(samples);
  }
  return importance;
}

}  // namespace qvlm
