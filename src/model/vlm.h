// The vision-language model: vision tower -> projector -> decoder, and where image tokens go.
#pragma once

#include <vector>

#include "io/hf_config.h"
#include "model/llama.h"
#include "model/projector.h"
#include "model/vit.h"

namespace qvlm {

// Immutable after loading; any number of threads may run it, each with its own KvCache.
class Vlm {
 public:
  // `packed_cache`: see Weights.
  static Vlm load(const Checkpoint& checkpoint,
                  Execution execution,
                  const std::filesystem::path& packed_cache = {});
  static Vlm load(const Weights& root, const ModelConfig& config);

  const ModelConfig& config() const { return config_; }

  // pixels: [3, image_size, image_size] -> [image_tokens, hidden]. Throws Cancelled, see
  // VisionTower.
  at::Tensor encode_image(const at::Tensor& pixels, const std::stop_token& cancel = {}) const;
  // Embeddings [tokens, hidden] of ids; each run of image ids takes the rows of the next image.
  // Throws kInvalidArgument when the number of image positions and image rows differ.
  at::Tensor embed(const std::vector<std::int32_t>& ids,
                   const std::vector<at::Tensor>& images) const;
  // Embedding [1, hidden] of a generated token; an image id that the model generates is a token
  // like any other.
  at::Tensor embed_token(std::int32_t id) const { return decoder_.embed({id}); }
  // Logits [1 or tokens, vocab] of the tokens behind those in the cache. Throws Cancelled, see
  // Decoder.
  at::Tensor forward(const at::Tensor& embeddings,
                     KvCache& cache,
                     LogitsOf positions,
                     const std::stop_token& cancel = {}) const {
    return decoder_.forward(embeddings, cache, positions, cancel);
  }

 private:
  Vlm(const Weights& root, const ModelConfig& config);

  ModelConfig config_;
  VisionTower tower_;
  Projector projector_;
  Decoder decoder_;
};

// Puts the rows of the images where `ids` has the image token; embeddings: [tokens, hidden],
// changed in place.
void place_image_tokens(at::Tensor& embeddings,
                        const std::vector<std::int32_t>& ids,
                        const std::vector<at::Tensor>& images,
                        std::int64_t image_token_id);

}  // namespace qvlm
