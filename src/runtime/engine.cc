#include "runtime/engine.h"

#include <algorithm>

#include "base/error.h"
#include "image/preprocess.h"

namespace qvlm {

Engine Engine::load(const std::filesystem::path& folder, Execution execution) {
  const c10::InferenceMode inference;
  const Checkpoint checkpoint = Checkpoint::open(folder);
  Engine engine(Vlm::load(checkpoint, execution), Tokenizer::load(folder / "tokenizer.json"));
  engine.processor_ = load_processor_config(checkpoint);
  engine.generation_ = load_generation_config(checkpoint);
  engine.checkpoint_bytes_ = checkpoint.file_bytes();
  return engine;
}

std::vector<std::int32_t> Engine::encode_prompt(const std::vector<Turn>& turns) const {
  const ModelConfig& config = model_.config();
  std::vector<std::int32_t> expanded;
  for (const std::int32_t id :
       tokenizer_.encode(render_llava_prompt(turns), /*add_special=*/true)) {
    const bool image = id == config.image_token_id;
    expanded.insert(expanded.end(), static_cast<std::size_t>(image ? config.image_tokens() : 1),
                    id);
  }
  return expanded;
}

at::Tensor Engine::encode_image(const Image& image) const {
  const c10::InferenceMode inference;
  const PixelValues pixels = preprocess(image, processor_);
  return model_.encode_image(
      at::tensor(pixels.values, at::kFloat).reshape({3, pixels.height, pixels.width}));
}

bool Engine::is_end_token(std::int32_t id) const {
  const std::vector<std::int64_t>& ends = generation_.eos_token_ids;
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

Sequence::Sequence(const Engine& engine, std::int64_t capacity)
    : engine_(engine), cache_(engine.model().config().text, capacity) {
  const std::int64_t limit = engine.model().config().text.max_positions;
  require(capacity <= limit, ErrorKind::kInvalidArgument, "the sequence would take ", capacity,
          " positions, the model has ", limit);
}

at::Tensor Sequence::prefill(const std::vector<std::int32_t>& ids,
                             const std::vector<at::Tensor>& images) {
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
  ids_ = ids;
  images_ = images;
  return engine_.model().forward(embeddings.slice(0, kept), cache_);
}

at::Tensor Sequence::step(std::int32_t id) {
  const c10::InferenceMode inference;
  ids_.push_back(id);
  return engine_.model().forward(engine_.model().embed_token(id), cache_).squeeze(0);
}

}  // namespace qvlm
