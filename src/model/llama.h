// The Llama decoder: pre-norm layers of grouped-query attention with rotary positions and a gated
// MLP.
#pragma once

#include <functional>
#include <stop_token>
#include <string_view>
#include <vector>

#include "io/hf_config.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/weight_source.h"

namespace qvlm {

class DecoderLayer {
 public:
  DecoderLayer(const Weights& layer, const TextConfig& config);
  // x: [tokens, hidden], the tokens behind cache.length(); keys and values go to layer `index` of
  // the cache.
  at::Tensor forward(const at::Tensor& x,
                     const RopeAngles& angles,
                     KvCache& cache,
                     std::int64_t index) const;
  // The same for a whole sequence without a cache: token t sees the tokens 0 .. t. Differentiable
  // where the linears are.
  at::Tensor forward(const at::Tensor& x, const RopeAngles& angles) const;

  // All linears in the order in which they compute; they may be replaced. They have kInputs inputs.
  std::vector<NamedLinear> linears();
  static constexpr int kInputs = 4;
  // NamedLinear::input of the linear whose name ends so. REQUIRES: it is one of a layer's.
  static int input_of(std::string_view name);

 private:
  // Attention over rotated queries [heads, tokens, head_dim], keys and values [kv_heads, ...].
  using Attend = std::function<at::Tensor(
      const at::Tensor& query, const at::Tensor& key, const at::Tensor& value)>;

  at::Tensor forward_with(const at::Tensor& x,
                          const RopeAngles& angles,
                          const Attend& attend) const;

  TextConfig config_;
  at::Tensor input_norm_, post_attention_norm_;
  Linear q_, k_, v_, o_, gate_, up_, down_;
};

// Final norm and output projection.
class Head {
 public:
  // `root`: the weights of the whole model, since a tied head is the decoder's embedding table.
  Head(const Weights& root, const ModelConfig& config);
  at::Tensor forward(const at::Tensor& x) const;  // [tokens, hidden] -> logits [tokens, vocab]

 private:
  double eps_;
  at::Tensor norm_;
  Linear projection_;
};

// Positions whose logits are wanted: the last one is what comes next.
enum class LogitsOf { kLast, kAll };

class Decoder {
 public:
  Decoder(const Weights& root, const ModelConfig& config);

  at::Tensor embed(const std::vector<std::int32_t>& ids) const;  // [tokens, hidden]
  // Runs the tokens behind those in the cache: [tokens, hidden] -> logits [1 or tokens, vocab].
  // Throws Cancelled between layers; the cache then has the length it had.
  at::Tensor forward(const at::Tensor& x,
                     KvCache& cache,
                     LogitsOf positions,
                     const std::stop_token& cancel = {}) const;

 private:
  at::Tensor embedding_;  // [vocab, hidden]
  Rope rope_;
  std::vector<DecoderLayer> layers_;
  Head head_;
};

}  // namespace qvlm
