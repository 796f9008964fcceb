// Conversation: every question renders the whole dialogue, and the sequence runs what of it has not
// run yet.
#include <qvlm/session.h>

#include <algorithm>
#include <chrono>
#include <iterator>

#include "base/cancellation.h"
#include "base/error.h"
#include "model/memory_plan.h"
#include "runtime/reply_writer.h"
#include "runtime/sampler.h"
#include "runtime/session_state.h"
#include "tensor/public_call.h"
#include "text/utf8.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_options(const GenerateOptions& options) {
  require(options.max_new_tokens > 0, ErrorKind::kInvalidArgument,
          "max_new_tokens must be positive, got ", options.max_new_tokens);
  require(options.alternatives >= 0, ErrorKind::kInvalidArgument,
          "alternatives must not be negative, got ", options.alternatives);
  for (const std::string& stop : options.stop)
    require(is_valid_utf8(stop), ErrorKind::kInvalidArgument,
            "a stop text is not UTF-8, so no reply can contain it");
  static_cast<void>(Sampler(options));  // refuses what it cannot use
}

void check_text(std::string_view text, const char* what) {
  refuse_image_token(text, "images come by themselves, before the text", what,
                     ErrorKind::kInvalidArgument);
}

// A reply may spell the image token; in the next prompt it must not become an image.
std::string as_history(std::string text) {
  for (std::size_t at = text.find(kImageToken); at != std::string::npos;
       at = text.find(kImageToken, at))
    text.insert(at + 1, " ");
  return text;
}

}  // namespace

// What was said, and what of it has run.
struct Conversation::State {
  State(std::shared_ptr<const Session::State> shared, KvFormat format)
      : session(std::move(shared)),
        kv_bytes(KvCache(session->engine.model().config().text, 1, format).bytes()),
        sequence(session->engine, 0, format) {}

  // The dialogue with a further question, and its ids.
  struct Prompt {
    std::vector<Turn> turns;
    std::vector<std::int32_t> ids;
    std::vector<at::Tensor> images;
  };

  // Room in the KV cache, within the budget.
  void make_room(std::int64_t capacity);
  // Answers; the working memory is reserved. Fills prompt.images.
  void answer(Prompt& prompt,
              const Question& question,
              const GenerateOptions& options,
              std::int64_t limit,
              ReplyWriter& writer,
              Reply& reply);
  // Runs the prompt; returns the logits [vocab] of what comes next. Throws Cancelled.
  at::Tensor run(Prompt& prompt, const Question& question, const std::stop_token& cancel);
  // Runs token after token until something ends the reply.
  void decode(at::Tensor logits,
              std::int64_t limit,
              const GenerateOptions& options,
              ReplyWriter& writer,
              Reply& reply);

  std::shared_ptr<const Session::State> session;
  std::vector<Turn> turns;
  std::vector<at::Tensor> images;                       // of all turns, [image_tokens, hidden] each
  std::vector<MemoryBudget::Reservation> image_memory;  // of the images, a question's together
  std::int64_t kv_bytes;                                // of one position
  MemoryBudget::Reservation kv_memory;
  std::int64_t capacity = 0;
  Sequence sequence;
};

void Conversation::State::make_room(std::int64_t needed) {
  if (needed <= capacity) return;
  // The old cache is there until it has been copied.
  MemoryBudget::Reservation larger =
      session->budget->reserve(kv_bytes * needed, join("a KV cache of ", needed, " positions"));
  sequence.reserve(needed);
  capacity = needed;
  kv_memory = std::move(larger);
}

void Conversation::State::answer(Prompt& prompt,
                                 const Question& question,
                                 const GenerateOptions& options,
                                 std::int64_t limit,
                                 ReplyWriter& writer,
                                 Reply& reply) {
  const Clock::time_point start = Clock::now();
  try {
    const at::Tensor logits = run(prompt, question, options.cancel);
    reply.prefill_seconds = seconds_since(start);
    decode(logits, limit, options, writer, reply);
    reply.decode_seconds = seconds_since(start) - reply.prefill_seconds;
  } catch (const Cancelled&) {
    reply.prefill_seconds = seconds_since(start);
    reply.stop_reason = StopReason::kCancelled;
  }
}

at::Tensor Conversation::State::run(Prompt& prompt,
                                    const Question& question,
                                    const std::stop_token& cancel) {
  for (const Image& image : question.images)
    prompt.images.push_back(session->engine.encode_image(image, cancel));
  return sequence.prefill(prompt.ids, prompt.images, LogitsOf::kLast, cancel).select(0, -1);
}

void Conversation::State::decode(at::Tensor logits,
                                 std::int64_t limit,
                                 const GenerateOptions& options,
                                 ReplyWriter& writer,
                                 Reply& reply) {
  Sampler sampler(options);
  for (std::int64_t i = 0; i < limit; ++i) {
    const std::int32_t id = sampler.pick(logits);
    if (session->engine.is_end_token(id)) {
      reply.stop_reason = StopReason::kEndToken;
      break;
    }
    if (!writer.push(id, logits) || i + 1 == limit) break;
    if (options.cancel.stop_requested()) {
      reply.stop_reason = StopReason::kCancelled;
      break;
    }
    logits = sequence.step(id);
  }
  writer.finish();
}

Conversation::Conversation(std::unique_ptr<State> state) : state_(std::move(state)) {}
Conversation::Conversation(Conversation&&) noexcept = default;
Conversation& Conversation::operator=(Conversation&&) noexcept = default;
Conversation::~Conversation() = default;

Reply Conversation::ask(const Question& question,
                        const GenerateOptions& options,
                        const TextCallback& on_text) {
  check_options(options);
  check_text(question.text, "question");
  const Engine& engine = state_->session->engine;
  const ModelConfig& config = engine.model().config();
  Reply reply;
  ReplyWriter writer(engine.tokenizer(), options, on_text, reply);

  State::Prompt prompt{state_->turns, {}, state_->images};
  prompt.turns.push_back({Role::kUser, question.text, static_cast<int>(question.images.size())});
  prompt.ids = engine.encode_prompt(prompt.turns);
  reply.prompt_tokens = static_cast<std::int64_t>(prompt.ids.size());
  const std::int64_t positions = config.text.max_positions;
  require(reply.prompt_tokens < positions, ErrorKind::kInvalidArgument, "the prompt takes ",
          reply.prompt_tokens, " positions, the model has ", positions);
  const std::int64_t limit = std::min(options.max_new_tokens, positions - reply.prompt_tokens);
  reply.reused_tokens = state_->sequence.shared_positions(prompt.ids, prompt.images);
  const std::int64_t row = config.text.hidden_size * static_cast<std::int64_t>(sizeof(float));
  MemoryBudget& budget = *state_->session->budget;
  MemoryBudget::Reservation images = budget.reserve(
      row * config.image_tokens() * std::ssize(question.images), "the features of the images");
  // The whole prompt is embedded, what has not run yet runs.
  const MemoryBudget::Reservation working =
      budget.reserve(row * reply.prompt_tokens +
                         activation_bytes(config, reply.prompt_tokens - reply.reused_tokens),
                     "running the prompt");

  public_call([&] {
    state_->make_room(reply.prompt_tokens + limit);
    state_->answer(prompt, question, options, limit, writer, reply);
  });
  if (!reply.text.empty()) {
    prompt.turns.push_back({Role::kAssistant, as_history(reply.text), 0});
    state_->turns = std::move(prompt.turns);
    state_->images = std::move(prompt.images);
    if (!question.images.empty()) state_->image_memory.push_back(std::move(images));
  }
  return reply;
}

std::int64_t Conversation::positions() const {
  return state_->sequence.length();
}

Conversation Session::start(const std::string& system) const {
  check_text(system, "system text");
  auto state = std::make_unique<Conversation::State>(state_, kv_cache_);
  if (!system.empty()) state->turns.push_back({Role::kSystem, system, 0});
  return Conversation(std::move(state));
}

}  // namespace qvlm
