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

at::Tensor Engine::encode_image(const Image& image, const std::stop_token& cancel) const {
  const c10::InferenceMode inference;
  return model_.encode_image(encoder_.pixels(image), cancel);
}

bool Engine::is_end_token(std::int32_t id) const {
  const std::vector<std::int64_t>& ends = generation_.eos_token_ids;
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

Sequence::Sequence(const Engine& engine, std::int64_t capacity, KvFormat format)
    : engine_(engine), cache_(engine.model().config().text, capacity, format) {}

std::int64_t Sequence::shared_positions(const std::vector<std::int32_t>& ids,
                                        const std::vector<at::Tensor>& images) const {
  if (ids.empty()) return 0;
  const auto limit = static_cast<std::ptrdiff_t>(std::min(ids.size() - 1, ids_.size()));
  const auto end = std::mismatch(ids.begin(), ids.begin() + limit, ids_.begin()).first;
  const std::int32_t image_id = engine_.model().config().image_token_id;
  auto at = ids.begin();
  for (std::size_t image = 0; image < images.size(); ++image) {
    at = std::find(at, end, image_id);
    const bool same = image < images_.size() && images[image].is_same(images_[image]);
    if (at == end || !same) return at - ids.begin();
    at += std::min<std::ptrdiff_t>(images[image].size(0), end - at);
  }
  // Further image positions wait for images that are not given yet.
  return std::find(at, end, image_id) - ids.begin();
}

at::Tensor Sequence::prefill(const std::vector<std::int32_t>& ids,
                             const std::vector<at::Tensor>& images,
                             LogitsOf positions,
                             const std::stop_token& cancel) {
  const c10::InferenceMode inference;
  require(!ids.empty(), ErrorKind::kInvalidArgument, "the prompt is empty");
  const std::int64_t kept = shared_positions(ids, images);
  const at::Tensor embeddings = engine_.model().embed(ids, images);
  // Should forward throw, the shared positions are what has run.
  cache_.truncate(kept);
  ids_.assign(ids.begin(), ids.begin() + kept);
  images_ = images;
  const at::Tensor logits =
      engine_.model().forward(embeddings.slice(0, kept), cache_, positions, cancel);
  ids_ = ids;
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
