#include "search/float_decoder.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/parallel.h"
#include "search/differentiate.h"
#include "search/wide_weights.h"

namespace qvlm {

std::size_t gradient_batch() {
  constexpr int kLeast = 4;
  return static_cast<std::size_t>(std::max(thread_count(), kLeast));
}

std::function<void()> count_over_batches(std::size_t batches, std::function<void()> on_forward) {
  return [batches, on_forward = std::move(on_forward), calls = std::size_t{0}]() mutable {
    if (++calls % batches == 0 && on_forward) on_forward();
  };
}

FloatDecoder::FloatDecoder(const Weights& root, const ModelConfig& config)
    : wide_(std::make_shared<WideWeights>(root), Execution::kFloat),
      config_(config),
      rope_(config.text.rope, config.text.head_dim) {}

DecoderLayer FloatDecoder::load_layer(std::size_t layer) const {
  return {wide_.scope("decoder.layers." + std::to_string(layer)), config_.text};
}

std::vector<States> FloatDecoder::run(const States& inputs,
                                      const std::function<void()>& on_forward) const {
  std::vector<States> trajectory = {inputs};
  for (std::size_t i = 0; i < layers(); ++i) {
    const DecoderLayer layer = load_layer(i);
    trajectory.push_back(map_states(trajectory.back(), [&](const at::Tensor& x) {
      return layer.forward(x, rope_.angles(0, x.size(0)));
    }));
    if (on_forward) on_forward();
  }
  return trajectory;
}

std::vector<States> FloatDecoder::pull_back_layer(std::size_t layer,
                                                  const States& before,
                                                  const std::vector<States>& gradients) const {
  const DecoderLayer loaded = load_layer(layer);
  std::vector<States> result(before.size());
  for_samples(before.size(), [&](std::size_t sample) {
    const RopeAngles angles = rope_.angles(0, before[sample].size(0));
    result[sample] = pull_back_each(before[sample], gradients[sample],
                                    [&](const at::Tensor& x) { return loaded.forward(x, angles); });
  });
  return result;
}

States FloatDecoder::pull_back_to_inputs(const std::vector<States>& trajectory,
                                         States gradients,
                                         const AddOwn& add_own) const {
  for (std::size_t i = layers(); i > 0; --i) {
    add_own(i, gradients);
    const DecoderLayer layer = load_layer(i - 1);
    const States& before = trajectory[i - 1];
    for_samples(before.size(), [&](std::size_t sample) {
      const RopeAngles angles = rope_.angles(0, before[sample].size(0));
      gradients[sample] = pull_back(before[sample], gradients[sample],
                                    [&](const at::Tensor& x) { return layer.forward(x, angles); });
    });
  }
  return gradients;
}

}  // namespace qvlm
