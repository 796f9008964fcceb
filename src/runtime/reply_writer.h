// Writes down a reply: token after token becomes ids, probabilities and text, and something ends
// it.
#pragma once

#include <qvlm/session.h>

#include <chrono>
#include <cstdint>

#include "runtime/stop_text.h"
#include "tensor/tensor.h"
#include "text/tokenizer.h"

namespace qvlm {

// Made when the question is asked: the time to the first token counts from there. All arguments
// must live as long as the writer.
class ReplyWriter {
 public:
  ReplyWriter(const Tokenizer& tokenizer,
              const GenerateOptions& options,
              const TextCallback& on_text,
              Reply& reply);

  // Takes the next token and the logits [vocab] that it was chosen from. Returns false when the
  // reply has to end: at a stop text, or as the callback wants it.
  bool push(std::int32_t id, const at::Tensor& logits);
  // Shows what was held back, unless a stop text or the callback ended the reply.
  void finish();

 private:
  void note_probabilities(std::int32_t id, const at::Tensor& logits);
  // Returns false from the piece on that ends the reply.
  bool show(const std::string& piece);
  void end(StopReason reason);

  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  StreamDecoder decoder_;
  StopText stop_;
  const TextCallback& on_text_;
  Reply& reply_;
  bool ended_ = false, finishing_ = false;
};

}  // namespace qvlm
