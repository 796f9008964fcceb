#include "search/token_importance.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "search/answer_logits.h"
#include "search/differentiate.h"
#include "search/float_decoder.h"
#include "search/watched_layer.h"

namespace qvlm {
namespace {

constexpr int kDraws = 2;
static_assert(kImportanceForwards == 2 + kDraws);

// Down one layer: [draws] gradients of a sample at its output become those at its input, and what
// they are at the inputs of linears on the way is added to `weights`, [inputs] of [tokens].
std::vector<at::Tensor> pull_back_watched(const DecoderLayer& layer,
                                          const RopeAngles& angles,
                                          const at::Tensor& before,
                                          const std::vector<at::Tensor>& gradients,
                                          std::vector<at::Tensor>& weights) {
  std::vector<at::Tensor> inputs(DecoderLayer::kInputs);
  const SeeInput keep = [&](std::size_t input, const at::Tensor& x) {
    x.retain_grad();
    inputs[input] = x;
  };
  const DecoderLayer watched = watch_inputs(layer, keep);
  return pull_back_each(
      before, gradients, [&](const at::Tensor& x) { return watched.forward(x, angles); },
      [&] {
        for (std::size_t i = 0; i < inputs.size(); ++i) {
          const at::Tensor squares = inputs[i].grad().square().sum(-1);
          weights[i] = weights[i].defined() ? weights[i] + squares : squares;
          inputs[i].mutable_grad() = at::Tensor();
        }
      });
}

// Adds to `importance` what the samples from `first` on give in a layer; their gradients,
// [samples][draws], go from its output to its input.
void descend(const FloatDecoder& decoder,
             std::size_t layer,
             const States& before,
             std::size_t first,
             std::vector<States>& gradients,
             TokenImportance& importance) {
  const DecoderLayer loaded = decoder.load_layer(layer);
  for_samples(before.size(), [&](std::size_t sample) {
    at::Tensor& behind = importance.outputs[layer][first + sample];
    for (const at::Tensor& gradient : gradients[sample]) {
      const at::Tensor squares = gradient.square().sum(-1);
      behind = behind.defined() ? behind + squares : squares;
    }
    std::vector<at::Tensor> own(DecoderLayer::kInputs);
    gradients[sample] = pull_back_watched(loaded, decoder.angles(before[sample].size(0)),
                                          before[sample], gradients[sample], own);
    for (std::size_t input = 0; input < own.size(); ++input)
      importance.inputs[layer][input][first + sample] = own[input];
  });
}

// Adds the even share. Sums are those of one thread after the other.
void share_evenly(std::vector<at::Tensor>& weights, std::size_t layer) {
  for_each_apart(1, [&](std::int64_t) {
    double sum = 0.0;
    std::int64_t tokens = 0;
    for (const at::Tensor& sample : weights) {
      sum += sample.sum(at::kDouble).item<double>();
      tokens += sample.size(0);
    }
    const double mean = sum / static_cast<double>(std::max<std::int64_t>(tokens, 1));
    require(std::isfinite(mean), ErrorKind::kCorrupt, "decoder.layers.", layer,
            ": the gradients of the answers are not finite");
    for (at::Tensor& sample : weights)
      sample = mean > 0.0 ? sample / mean + kEvenShare : at::ones_like(sample);
  });
}

}  // namespace

TokenImportance measure_token_importance(const Weights& root,
                                         const ModelConfig& config,
                                         const States& inputs,
                                         const std::vector<std::vector<TokenKind>>& kinds,
                                         const std::function<void()>& on_forward,
                                         const std::function<bool()>& stop_requested) {
  const FloatDecoder decoder(root, config);
  const States empty(inputs.size());
  TokenImportance importance{
      std::vector<InputWeights>(decoder.layers(), InputWeights(DecoderLayer::kInputs, empty)),
      std::vector<States>(decoder.layers(), empty)};
  const std::size_t step = gradient_batch(), parts = (inputs.size() + step - 1) / step;
  const auto count = count_over_batches(parts, on_forward);
  for (std::size_t first = 0; first < inputs.size(); first += step) {
    const std::size_t end = std::min(first + step, inputs.size());
    const std::vector<States> trajectory = decoder.run(slice(inputs, first, end), count);
    std::vector<States> gradients =
        AnswerLogits(decoder.weights(), config, slice(kinds, first, end))
            .draw_gradients(trajectory.back(), kDraws, first);
    for (std::size_t layer = decoder.layers(); layer > 0; --layer) {
      if (stop_requested && stop_requested()) return {};
      descend(decoder, layer - 1, trajectory[layer - 1], first, gradients, importance);
      for (int forward = 0; forward < 1 + kDraws; ++forward)
        count();
    }
  }
  for (std::size_t layer = 0; layer < decoder.layers(); ++layer) {
    for (States& samples : importance.inputs[layer])
      share_evenly(samples, layer);
    share_evenly(importance.outputs[layer], layer);
  }
  return importance;
}

}  // namespace qvlm
