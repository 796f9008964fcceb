// Engine: a loaded model with its tokenizer and image processor. Sequence: one prompt being run on
// it, with its KV cache. The public Session, the evaluator and the bench all stand on these two.
#pragma once

#include <qvlm/image.h>
#include <qvlm/session.h>

#include <filesystem>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "io/hf_config.h"
#include "model/prompt_encoder.h"
#include "model/vlm.h"
#include "tensor/tensor.h"

namespace qvlm {

// Immutable after load: any number of threads may share one.
class Engine {
 public:
  // `packed_cache`: see SessionOptions.
  static Engine load(const std::filesystem::path& model,
                     Execution execution,
                     const std::filesystem::path& packed_cache = {});

  const Vlm& model() const { return model_; }
  const Tokenizer& tokenizer() const { return encoder_.tokenizer(); }
  const GenerationConfig& generation() const { return generation_; }
  std::int64_t checkpoint_bytes() const { return checkpoint_bytes_; }
  // See model/products.h.
  const std::map<std::string, std::int64_t>& products() const { return products_; }

  // See PromptEncoder::encode.
  std::vector<std::int32_t> encode_prompt(const std::vector<Turn>& turns) const {
    return encoder_.encode(turns);
  }
  // Tower and projector: [image_tokens, hidden]. Throws Cancelled, see Vlm.
  at::Tensor encode_image(const Image& image, const std::stop_token& cancel = {}) const;
  bool is_end_token(std::int32_t id) const;

 private:
  Engine(Vlm model, PromptEncoder encoder)
      : model_(std::move(model)), encoder_(std::move(encoder)) {}

  Vlm model_;
  PromptEncoder encoder_;
  GenerationConfig generation_;
  std::int64_t checkpoint_bytes_ = 0;
  std::map<std::string, std::int64_t> products_;
};

class Sequence {
 public:
  // `capacity`: most positions the sequence may reach; kInvalidArgument if the model has fewer.
  Sequence(const Engine& engine, std::int64_t capacity, KvFormat format);

  std::int64_t length() const { return cache_.length(); }
  // Makes room for so many positions, see KvCache::reserve.
  void reserve(std::int64_t capacity) { cache_.reserve(capacity); }
  // Positions at the front of such a prompt that have run already: the same ids, and the same
  // images by identity of the tensors. The last position always runs, for its logits.
  std::int64_t shared_positions(const std::vector<std::int32_t>& ids,
                                const std::vector<at::Tensor>& images) const;
  // Runs the prompt, whose image positions take `images` in order ([image_tokens, hidden] each),
  // from its first position that is not shared with what has run. Returns the logits of the last
  // position, [1, vocab], or of every newly run one, [tokens, vocab]. Throws Cancelled, see
  // Decoder; the shared positions stay.
  at::Tensor prefill(const std::vector<std::int32_t>& ids,
                     const std::vector<at::Tensor>& images,
                     LogitsOf positions = LogitsOf::kLast,
                     const std::stop_token& cancel = {});
  // Appends one token; returns its logits: [vocab].
  at::Tensor step(std::int32_t id);

 private:
  const Engine& engine_;
  KvCache cache_;
  std::vector<std::int32_t> ids_;
  std::vector<at::Tensor> images_;
};

}  // namespace qvlm
