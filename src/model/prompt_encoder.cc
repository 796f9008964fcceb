#include "model/prompt_encoder.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "image/preprocess.h"

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

PromptEncoder PromptEncoder::load(const Checkpoint& checkpoint) {
  const std::filesystem::path& folder = checkpoint.folder();
  ModelConfig config = load_model_config(checkpoint);
  ProcessorConfig processor = load_processor_config(checkpoint);
  check_processor(processor, config, folder);
  check_chat_template(folder / "chat_template.jinja");
  Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
  check_tokenizer(tokenizer, config, folder / "tokenizer.json");
  return PromptEncoder(std::move(config), std::move(processor), std::move(tokenizer));
}

std::vector<std::int32_t> PromptEncoder::encode(const std::vector<Turn>& turns,
                                                std::string_view answer) const {
  std::string text = render_llava_prompt(turns);
  if (!answer.empty()) text.append(" ").append(answer);
  std::vector<std::int32_t> expanded;
  for (const std::int32_t id : tokenizer_.encode(text, /*add_special=*/true)) {
    const bool image = id == config_.image_token_id;
    expanded.insert(expanded.end(), static_cast<std::size_t>(image ? config_.image_tokens() : 1),
                    id);
  }
  return expanded;
}

at::Tensor PromptEncoder::pixels(const Image& image) const {
  const PixelValues pixels = preprocess(image, processor_);
  return at::tensor(pixels.values, at::kFloat).reshape({3, pixels.height, pixels.width});
}

void refuse_image_token(std::string_view text,
                        std::string_view where,
                        std::string_view what,
                        ErrorKind kind) {
  require(text.find(kImageToken) == std::string_view::npos, kind, where, ": the ", what,
          " contains the image token ", kImageToken);
}

}  // namespace qvlm
