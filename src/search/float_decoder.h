// The float decoder with gradients by recomputation: layers are loaded one at a time, forwards keep
// only the states between layers, and the backward pass loads the layers again from the last to the
// first and runs each once more from the states before it. Memory holds one layer, whatever the
// depth. Losses on the states come from the caller (search/vision_encoder_loss.h).
#pragma once

#include <functional>
#include <vector>

#include "io/hf_config.h"
#include "model/llama.h"
#include "model/weight_source.h"
#include "search/states.h"

namespace qvlm {

// How many samples go up and down the decoder together, where the states behind all layers are kept
// of each: enough for all threads, and so many that loading layers is not what takes time.
std::size_t gradient_batch();
// Calls on_forward behind every batches-th of its own calls, as one layer-forward is one on all
// samples. on_forward may be empty.
std::function<void()> count_over_batches(std::size_t batches, std::function<void()> on_forward);

// Safe for use by one thread at a time; samples are shared out over the threads inside.
class FloatDecoder {
 public:
  // root: all weights of a float model.
  FloatDecoder(const Weights& root, const ModelConfig& config);

  const Weights& weights() const { return wide_; }  // all of the model, in float32
  std::size_t layers() const { return static_cast<std::size_t>(config_.text.layers); }
  // The states before the first layer and behind every layer: [layers + 1]. on_forward is called
  // behind every layer; may be empty.
  std::vector<States> run(const States& inputs, const std::function<void()>& on_forward = {}) const;
  // Takes gradients at the outputs of a layer to its inputs: several of each sample, [samples][..],
  // for which the layer runs once.
  std::vector<States> pull_back_layer(std::size_t layer,
                                      const States& before,
                                      const std::vector<States>& gradients) const;
  // Takes the gradient at the last of these states to the first. Before the gradient at
  // trajectory[i], i > 0, goes on through layer i - 1, add_own(i, gradients) may add to it what
  // losses on these states give.
  using AddOwn = std::function<void(std::size_t i, States& gradients)>;
  States pull_back_to_inputs(const std::vector<States>& trajectory,
                             States gradients,
                             const AddOwn& add_own) const;
  // Differentiable in their inputs.
  DecoderLayer load_layer(std::size_t layer) const;
  RopeAngles angles(std::int64_t tokens) const { return rope_.angles(0, tokens); }
  Head load_head() const { return {wide_, config_}; }

 private:
  Weights wide_;
  ModelConfig config_;
  Rope rope_;
};

}  // namespace qvlm
