#include <qvlm/session.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"
#include "runtime/stop_text.h"

namespace qvlm {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Collects the text of a reply and passes it on as it is decided.
class ReplyText {
 public:
  ReplyText(const Engine& engine,
            const GenerateOptions& options,
            const std::function<bool(std::string_view)>& on_text,
            Reply& reply)
      : decoder_(engine.tokenizer(), /*skip_special=*/true),
        stop_(options.stop),
        on_text_(on_text),
        reply_(reply) {}

  // Returns false when generation has to end.
  bool push(std::int32_t id) {
    reply_.ids.push_back(id);
    return show(stop_.push(decoder_.push(id)));
  }

  // Shows what was held back, unless a stop text or the callback ended the reply.
  void finish() {
    if (show(stop_.push(decoder_.finish()))) show(stop_.finish());
  }

 private:
  // Returns false from the piece on that ends the reply.
  bool show(const std::string& piece) {
    if (ended_) return false;
    reply_.text += piece;
    if (stop_.found()) end(StopReason::kStopText);
    if (!piece.empty() && on_text_ && !on_text_(piece)) end(StopReason::kCallback);
    return !ended_;
  }

  void end(StopReason reason) {
    reply_.stop_reason = reason;
    ended_ = true;
  }

  StreamDecoder decoder_;
  StopText stop_;
  const std::function<bool(std::string_view)>& on_text_;
  Reply& reply_;
  bool ended_ = false;
};

}  // namespace

struct Session::State {
  Engine engine;
  KvFormat kv_cache;
};

Session::Session(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Session Session::open(const std::filesystem::path& model, const SessionOptions& options) {
  return Session(std::make_shared<const State>(
      State{Engine::load(model, options.execution, options.packed_cache), options.kv_cache}));
}

Reply Session::generate(const Question& question,
                        const GenerateOptions& options,
                        const std::function<bool(std::string_view)>& on_text) const {
  const Engine& engine = state_->engine;
  require(options.max_new_tokens > 0, ErrorKind::kInvalidArgument,
          "max_new_tokens must be positive, got ", options.max_new_tokens);
  Sampler sampler(options);
  const auto prefill_start = std::chrono::steady_clock::now();
  const std::vector<std::int32_t> ids = engine.encode_prompt(
      {{Role::kUser, question.text, static_cast<int>(question.images.size())}});
  std::vector<at::Tensor> images;
  for (const Image& image : question.images)
    images.push_back(engine.encode_image(image));

  Reply reply;
  reply.prompt_tokens = static_cast<std::int64_t>(ids.size());
  const std::int64_t positions = engine.model().config().text.max_positions;
  require(reply.prompt_tokens < positions, ErrorKind::kInvalidArgument, "the prompt takes ",
          reply.prompt_tokens, " positions, the model has ", positions);
  Sequence sequence(engine, std::min(positions, reply.prompt_tokens + options.max_new_tokens),
                    state_->kv_cache);
  at::Tensor logits = sequence.prefill(ids, images).select(0, -1);
  reply.prefill_seconds = seconds_since(prefill_start);

  const auto decode_start = std::chrono::steady_clock::now();
  ReplyText text(engine, options, on_text, reply);
  const std::int64_t limit = std::min(options.max_new_tokens, positions - reply.prompt_tokens);
  for (std::int64_t i = 0; i < limit; ++i) {
    const std::int32_t id = sampler.pick(logits);
    if (engine.is_end_token(id)) {
      reply.stop_reason = StopReason::kEndToken;
      break;
    }
    if (!text.push(id) || i + 1 == limit) break;
    logits = sequence.step(id);
  }
  text.finish();
  reply.decode_seconds = seconds_since(decode_start);
  return reply;
}

}  // namespace qvlm
