#include "runtime/engine.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "image/preprocess.h"
#include "model/products.h"

namespace qvlm {
namespace {

// Ids of the tokenizer index the model's embedding table and logits.
void check_tokenizer(const Tokenizer& tokenizer,
                     const ModelConfig& config,
                     const std::filesystem::path& file) {
  require(tokenizer.size() <= config.text.vocab_size, ErrorKind::kCorrupt, file.string(), ": has ",
          tokenizer.size(), " ids, config.json's vocab_size is only ", config.text.vocab_size);
  const auto image = tokenizer.find_id(kImageToken);
  require(image == config.image_token_id, ErrorKind::kCorrupt, file.string(), ": expected '",
          kImageToken, "' to have config.json's image token id ", config.image_token_id, ", got ",
          image ? std::to_string(*image) : "no such token");
}

// The tower takes squares of one size; a processor that makes another is not this model's.
void check_processor(const ProcessorConfig& processor,
                     const ModelConfig& config,
                     const std::filesystem::path& folder) {
  const bool crops = processor.center_crop;
  if (!crops && (!processor.resize || processor.shortest_edge > 0)) return;  // depends on the image
  const std::int64_t height = crops ? processor.crop_height : processor.resize_height;
  const std::int64_t width = crops ? processor.crop_width : processor.resize_width;
  const std::int64_t size = config.vision.image_size;
  require(height == size && width == size, ErrorKind::kCorrupt, folder.string(),
          ": the processor config makes images of ", height, " x ", width,
          ", config.json's vision_config.image_size is ", size);
}

// Prompts are rendered as LLaVA-1.5's template does; a folder with another one deserves a word.
void check_chat_template(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return;
  if (read_text_file(file).find("ASSISTANT:") != std::string::npos) return;
  log_warning(join(file.string(), ": is not LLaVA-1.5's template (no 'ASSISTANT:'); prompts are ",
                   "still rendered as 'USER: <image> ... ASSISTANT:'"));
}

}  // namespace

Engine Engine::load(const std::filesystem::path& folder,
                    Execution execution,
                    const std::filesystem::path& packed_cache) {
  const c10::InferenceMode inference;
  const Checkpoint checkpoint = Checkpoint::open(folder);
  // Small files first: what is wrong with them is known before the weights are read.
  const ModelConfig config = load_model_config(checkpoint);
  const ProcessorConfig processor = load_processor_config(checkpoint);
  const GenerationConfig generation = load_generation_config(checkpoint);
  check_processor(processor, config, folder);
  check_chat_template(folder / "chat_template.jinja");
  Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
  check_tokenizer(tokenizer, config, folder / "tokenizer.json");

  Engine engine(Vlm::load(checkpoint, execution, packed_cache), std::move(tokenizer));
  engine.processor_ = processor;
  engine.generation_ = generation;
  engine.checkpoint_bytes_ = checkpoint.file_bytes();
  engine.products_ = count_products(checkpoint, config, execution);
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
