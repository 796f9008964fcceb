// From a conversation to what the model takes: chat format, tokenizer and image processor of one
// model folder, checked against its config.json. Runs nothing: that is model/vlm.h.
#pragma once

#include <qvlm/error.h>
#include <qvlm/image.h>

#include <string>
#include <string_view>
#include <vector>

#include "io/hf_config.h"
#include "tensor/tensor.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace qvlm {

// Immutable after load: any number of threads may share one.
class PromptEncoder {
 public:
  // Throws what reading the files does; kCorrupt for a tokenizer or a processor that is not this
  // model's.
  static PromptEncoder load(const Checkpoint& checkpoint);

  const ModelConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }

  // Ids of the rendered turns, each "<image>" expanded to as many image positions as the tower
  // yields. `answer`: what the assistant says then; its ids begin where the result departs from
  // that without an answer.
  std::vector<std::int32_t> encode(const std::vector<Turn>& turns,
                                   std::string_view answer = {}) const;
  // What the tower takes: [3, height, width].
  at::Tensor pixels(const Image& image) const;

 private:
  PromptEncoder(ModelConfig config, ProcessorConfig processor, Tokenizer tokenizer)
      : config_(std::move(config)),
        processor_(std::move(processor)),
        tokenizer_(std::move(tokenizer)) {}

  ModelConfig config_;
  ProcessorConfig processor_;
  Tokenizer tokenizer_;
};

// Throws "<where>: the <what> contains the image token <image>" for a text that would be taken for
// an image's place: a prompt has one token an image.
void refuse_image_token(std::string_view text,
                        std::string_view where,
                        std::string_view what,
                        ErrorKind kind = ErrorKind::kCorrupt);

}  // namespace qvlm
