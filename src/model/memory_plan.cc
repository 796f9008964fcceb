#include "model/memory_plan.h"

#include <algorithm>

#include "io/quantized_checkpoint.h"
#include "model/kv_cache.h"
#include "model/linear_list.h"
#include "model/vit.h"

namespace qvlm {
namespace {

constexpr std::int64_t kFloatBytes = 4;

// The packed layout of docs/formats.md: panels of 64 outputs, steps of 8 inputs.
constexpr std::int64_t kPanelOutputs = 64;
constexpr std::int64_t kStepInputs = 8;

std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

std::int64_t packed_bytes(std::int64_t out, std::int64_t in, const Scheme& weight) {
  const std::int64_t outputs = round_up(out, kPanelOutputs);
  const std::int64_t codes = outputs * round_up(in, kStepInputs) / (weight.bits <= 4 ? 2 : 1);
  const std::int64_t grid = outputs * group_count(weight, in);
  return codes + grid * (kFloatBytes + (weight.symmetric ? 0 : 1));
}

// Vectors and the tower's tables, which are float32 in every execution; biases too.
std::int64_t float_values(const ModelConfig& config) {
  const VisionConfig& vision = config.vision;
  const TextConfig& text = config.text;
  const std::int64_t patch = 3 * vision.patch_size * vision.patch_size;
  const std::int64_t vision_embedding =
      vision.hidden_size * (1 + patch + 1 + vision.patches() + 2);  // token, patch, places, norm
  // Two norms with biases, four biases of attention and two of the MLP.
  const std::int64_t vision_layer = (4 + 4 + 1) * vision.hidden_size + vision.intermediate_size;
  const std::int64_t query = text.heads * text.head_dim, key = text.kv_heads * text.head_dim;
  const std::int64_t decoder_layer =
      2 * text.hidden_size + (text.attention_bias ? query + 2 * key + text.hidden_size : 0) +
      (text.mlp_bias ? 2 * text.intermediate_size + text.hidden_size : 0);
  return vision_embedding + vision.layers * vision_layer +
         (config.projector_bias ? 2 * text.hidden_size : 0) + text.layers * decoder_layer +
         text.hidden_size;  // the last norm
}

}  // namespace

std::int64_t activation_bytes(const ModelConfig& config, std::int64_t prompt) {
  const VisionConfig& vision = config.vision;
  const TextConfig& text = config.text;
  const std::int64_t patches = 1 + vision.patches();
  // Outputs of all layers are kept until the features are selected.
  const std::int64_t image =
      patches * ((vision.layers + 1 + 6) * vision.hidden_size + 2 * vision.intermediate_size);
  const std::int64_t layer = prompt * (6 * text.hidden_size + 3 * text.intermediate_size);
  const std::int64_t head = prompt * 2 * text.hidden_size + text.vocab_size;  // of one position
  return kFloatBytes * std::max({image, layer, head});
}

std::int64_t linear_bytes(std::int64_t out,
                          std::int64_t in,
                          const std::optional<LinearScheme>& scheme,
                          Execution execution,
                          std::int64_t stored_bytes) {
  switch (arithmetic_of(scheme, execution)) {
    case Arithmetic::kInteger:
    case Arithmetic::kUnpacked:
      return packed_bytes(out, in, scheme->weight);
    case Arithmetic::kBf16:
      return 2 * out * in;
    case Arithmetic::kFloat:
      return stored_bytes * out * in;
    default:
      return kFloatBytes * out * in;
  }
}

MemoryPlan plan_memory(const ModelConfig& whole,
                       const std::map<std::string, LinearScheme>& schemes,
                       Execution execution,
                       const MemoryTerms& terms) {
  ModelConfig config = whole;
  config.vision.layers = needed_vision_layers(whole);  // the others are not loaded
  MemoryPlan plan;
  plan.weights = kFloatBytes * float_values(config) +
                 terms.stored_bytes * config.text.vocab_size * config.text.hidden_size;  // table
  for (const LinearShape& linear : list_linears(config)) {
    const auto found = schemes.find(linear.name);
    const auto scheme = found == schemes.end() ? std::nullopt : std::optional(found->second);
    plan.weights += linear_bytes(linear.out, linear.in, scheme, execution, terms.stored_bytes);
  }
  // The tables are allocated to be counted, their pages are never touched.
  plan.kv_cache = KvCache(config.text, terms.capacity, terms.kv_cache).bytes();
  plan.activations = activation_bytes(config, terms.prompt);
  return plan;
}

MemoryPlan plan_memory(const Checkpoint& checkpoint, Execution execution, MemoryTerms terms) {
  const auto quantization = QuantizationConfig::load(checkpoint);
  std::map<std::string, LinearScheme> schemes;
  if (quantization) schemes.insert(quantization->linears().begin(), quantization->linears().end());
  const DType table = checkpoint.get_tensor("decoder.embed_tokens.weight").dtype;
  terms.stored_bytes = dtype_size(table) == 2 ? 2 : 4;
  return plan_memory(load_model_config(checkpoint), schemes, execution, terms);
}

}  // namespace qvlm
