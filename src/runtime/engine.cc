#include "runtime/engine.h"

#include <algorithm>

#include "base/error.h"
#include "model/products.h"

namespace qvlm {

Engine Engine::load(const std::filesystem::path& folder,
                    Execution execution,
                    const std::filesystem::path& packed_cache) {
  const c10::InferenceMode inference;
  const Checkpoint checkpoint = Checkpoint::open(folder);
  // Small files first: what is wrong with them is known before the weights are read.
  PromptEncoder encoder = PromptEncoder::load(checkpoint);
  GenerationConfig generation = load_generation_config(checkpoint);
  Engine engine(Vlm::load(checkpoint, execution, packed_cache), std::move(encoder));
  engine.generation_ = std::move(generation);
  engine.checkpoint_bytes_ = checkpoint.file_bytes();
  engine.products_ = count_products(checkpoint, engine.model_.config(), execution);
  return engine;
}

at::Tensor Engine::encode_image(const Image& image) const {
  const c10::InferenceMode inference;
  return model_.encode_image(encoder_.pixels(image));
}

bool Engine::is_end_token(std::int32_t id) const {
  const std::vector<std::int64_t>& ends = generation_.eos_token_ids;
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

Sequence::Sequence(const Engine& engine, std::int64_t capacity, KvFormat format)
    : engine_(engine), cache_(engine.model().config().text, capacity, format) {}

at::Tensor Sequence::prefill(const std::vector<std::int32_t>& ids,
                             const std::vector<at::Tensor>& images,
                             LogitsOf positions) {
  const c10::InferenceMode inference;
  require(!ids.empty(), ErrorKind::kInvalidArgument, "the prompt is empty");
  const bool same_images =
      images.size() == images_.size() &&
      std::equal(images.begin(), images.end(), images_.begin(),
                 [](const at::Tensor& a, const at::Tensor& b) { return a.is_same(b); });
  std::int64_t kept = 0;
  if (same_images) {
    // The last position always runs: its logits are what the caller wants.
    const auto limit = static_cast<std::ptrdiff_t>(std::min(ids.size() - 1, ids_.size()));
    kept = std::mismatch(ids.begin(), ids.begin() + limit, ids_.begin()).first - ids.begin();
  }
  const at::Tensor embeddings = engine_.model().embed(ids, images);
  cache_.truncate(kept);
  ids_.clear();  // should forward throw, nothing is kept next time
  const at::Tensor logits = engine_.model().forward(embeddings.slice(0, kept), cache_, positions);
  ids_ = ids;
  images_ = images;
  return logits;
}

at::Tensor Sequence::step(std::int32_t id) {
  const c10::InferenceMode inference;
  const at::Tensor logits =
      engine_.model().forward(engine_.model().embed_token(id), cache_, LogitsOf::kLast);
  ids_.push_back(id);
  return logits.squeeze(0);
}

}  // namespace qvlm
