// Predicted sizes against what the parts really hold, and synthetic weights.
#include "model/memory_plan.h"

#include <gtest/gtest.h>

#include "model/known_models.h"
#include "model/synthetic_weights.h"
#include "model/vlm.h"

namespace qvlm {
namespace {

LinearScheme weight_only(int bits, int group_size, bool symmetric) {
  Scheme scheme{.bits = bits, .symmetric = symmetric};
  scheme.granularity = group_size > 0 ? Granularity::kGroup : Granularity::kChannel;
  scheme.group_size = group_size;
  return {scheme, std::nullopt};
}

TEST(MemoryPlan, PackedBytesAreTheKernels) {
  for (const int bits : {3, 4, 6, 8}) {
    for (const int group : {0, 32}) {
      for (const bool symmetric : {true, false}) {
        const LinearScheme scheme = weight_only(bits, group, symmetric);
        const SyntheticWeights weights({{"x", scheme}}, 1);
        const QuantizedWeight plain = weights.load_codes("x", 75, 96);
        const kernels::PackedWeights packed = kernels::pack_weights(
            {plain.out, plain.in, bits, group, plain.codes, plain.scales, plain.zero_points});
        EXPECT_EQ(linear_bytes(75, 96, scheme, Execution::kPacked, 2),
                  static_cast<std::int64_t>(packed.bytes()));
      }
    }
  }
  EXPECT_EQ(linear_bytes(75, 96, std::nullopt, Execution::kPacked, 4), 75 * 96 * 4);
  EXPECT_EQ(linear_bytes(75, 96, std::nullopt, Execution::kBf16, 4), 75 * 96 * 2);
}

TEST(MemoryPlan, SevenBillionInFourBits) {
  const ModelConfig config = make_known_config("llava-1.5-7b", 0);
  std::map<std::string, LinearScheme> schemes;
  for (std::int64_t i = 0; i < config.text.layers; ++i) {
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      schemes["decoder.layers." + std::to_string(i) + "." + name] = weight_only(4, 128, true);
  }
  const MemoryPlan quantized = plan_memory(config, schemes, Execution::kPacked, {2, 640, 704});
  const MemoryPlan dense = plan_memory(config, {}, Execution::kFloat, {2, 640, 704});
  // 32 layers of 4 * 4096^2 + 3 * 4096 * 11008 weights: 2 bytes each against 4 + 32/128 bits.
  const double linears = 32.0 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 11008);
  EXPECT_DOUBLE_EQ(static_cast<double>(dense.weights - quantized.weights),
                   linears * (2.0 - 4.25 / 8));
  EXPECT_EQ(dense.kv_cache, 2LL * 4 * 32 * 4096 * 704);
}

// A shape of seconds: the seed decides the values, and a model on them gives finite answers.
TEST(SyntheticWeights, RunAModel) {
  const c10::InferenceMode inference;
  ModelConfig config = make_known_config("llava-1.5-7b", 1);
  config.vision.hidden_size = config.text.hidden_size = 128;
  config.vision.intermediate_size = config.text.intermediate_size = 256;
  config.vision.heads = config.text.heads = config.text.kv_heads = 4;
  config.text.head_dim = 32;
  config.image_token_id = 40;
  config.text.vocab_size = 64;
  LinearScheme scheme = weight_only(4, 32, true);
  scheme.activation = Scheme{.bits = 8, .granularity = Granularity::kToken, .dynamic = true};
  const auto logits = [&](std::uint64_t seed) {
    const auto source = std::make_shared<const SyntheticWeights>(
        std::map<std::string, LinearScheme>{{"decoder.layers.0.mlp.up_proj", scheme}}, seed);
    const Vlm model = Vlm::load(Weights(source, Execution::kPacked), config);
    const at::Tensor image = model.encode_image(at::ones({3, 336, 336}));
    std::vector<std::int32_t> ids(static_cast<std::size_t>(config.image_tokens()), 40);
    ids.push_back(1);
    KvCache cache(config.text, static_cast<std::int64_t>(ids.size()));
    return model.forward(model.embed(ids, {image}), cache, LogitsOf::kAll);
  };
  const at::Tensor first = logits(1);
  EXPECT_TRUE(first.isfinite().all().item<bool>());
  EXPECT_GT(first.std().item<double>(), 0.01);
  EXPECT_TRUE(at::equal(first, logits(1)));
  EXPECT_FALSE(at::equal(first, logits(2)));
}

}  // namespace
}  // namespace qvlm
