// Running a model: load a folder once, then ask questions about images.
//
//   qvlm::Session session = qvlm::Session::open("models/reference-llava");
//   qvlm::Reply reply = session.generate({.text = "What colour is the circle?",
//                                         .images = {qvlm::Image::load("scene.png")}});
//
//   qvlm::Conversation conversation = session.start();  // remembers what was said
//   conversation.ask({.text = "Is there a circle?", .images = {qvlm::Image::load("scene.png")}});
//   conversation.ask({.text = "What colour is it?"});  // runs the new words only
//
// docs/embedding.md walks through threads, cancellation, memory and errors.
#pragma once

#include <qvlm/image.h>
#include <qvlm/scheme.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

// How quantized linears compute. Linears that the checkpoint keeps in float are affected by kBf16
// only.
enum class Execution {
  kPacked,     // kernels on packed weights: integer products of codes; bf16 products where the
               // scheme leaves activations alone; asymmetric activations as kSimulated
  kSimulated,  // float matmul on dequantized weights, activations rounded first: to their codes, or
               // to bf16
  kFloat,      // float matmul on dequantized weights, activations untouched
  kBf16,       // LibTorch's bf16 products of all weights rounded to bf16, activations too
};

struct SessionOptions {
  Execution execution = Execution::kPacked;
  // Nothing: as the checkpoint asks for (a recipe's kv_cache), else float32.
  std::optional<KvFormat> kv_cache = {};
  // A file that keeps the weights as the kernels want them, beside the checkpoint: made by the
  // first load, mapped by later ones, made anew when the checkpoint has changed. Empty: none.
  std::filesystem::path packed_cache = {};
  // Most bytes that the weights, the KV caches and the working memory of all replies of this
  // session and its copies may take at a time. What would take more is refused before it is
  // allocated. Bytes are computed, not measured; LibTorch itself (about 150 MB) and the images
  // that a caller holds are not counted. 0: no limit.
  std::int64_t memory_limit = 0;
};

// What a loaded model is. Sizes in bytes.
struct SessionInfo {
  double load_seconds = 0.0;
  std::int64_t checkpoint_bytes = 0;  // of the weight files
  std::int64_t weight_bytes = 0;      // of the weights in memory, as computed
  KvFormat kv_cache = KvFormat::kFloat32;
  std::int64_t kv_bytes = 0;         // of one position in the KV cache
  std::int64_t max_positions = 0;    // of prompt and reply together
  std::int64_t image_positions = 0;  // that one image takes
};

struct Question {
  std::string text = {};           // without "<image>": kInvalidArgument
  std::vector<Image> images = {};  // they come before the text, in order
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 64;
  double temperature = 0.0;  // 0: greedy
  std::int64_t top_k = 0;    // 0: all tokens
  double top_p = 1.0;
  std::uint64_t seed = 0;  // same seed, same reply
  // Generation ends before the first of these, valid UTF-8; also at the model's own end token.
  std::vector<std::string> stop = {};
  bool log_probabilities = false;  // fill Reply::log_probabilities
  std::int64_t alternatives = 0;   // fill Reply::alternatives with so many tokens a place
  // Ends the reply from another thread: between two tokens, or two layers of the prompt.
  std::stop_token cancel = {};
};

enum class StopReason { kEndToken, kStopText, kLength, kCallback, kCancelled };

// A token that could stand at a place of a reply.
struct TokenChoice {
  std::int32_t id = 0;
  std::string text;              // of this token alone
  double log_probability = 0.0;  // natural logarithm
};

struct Reply {
  std::string text;
  std::vector<std::int32_t> ids;  // without the end token; of a stop text, its tokens too
  // Of each id, under the model's own distribution: before temperature, top_k and top_p. Empty
  // where GenerateOptions does not ask.
  std::vector<double> log_probabilities;
  // At each id's place the likeliest tokens, likeliest first; the lowest id first among equals.
  std::vector<std::vector<TokenChoice>> alternatives;
  std::int64_t prompt_tokens = 0;  // image positions and, in a conversation, all that was said
  std::int64_t reused_tokens = 0;  // of those: found in the KV cache, not run again
  StopReason stop_reason = StopReason::kLength;
  double first_token_seconds = 0.0;  // from the call to the first token; 0 without one
  double prefill_seconds = 0.0;      // images and prompt
  double decode_seconds = 0.0;       // all tokens behind the prompt
};

// Gets each piece of text (whole UTF-8 characters) as it is decided, on the calling thread; false
// ends the reply. What it throws passes through the call.
using TextCallback = std::function<bool(std::string_view piece)>;

// A dialogue. It keeps keys and values of all that was said, so a further question runs its own
// words only. Not for two threads at once; different conversations may run on different threads. It
// keeps the model's weights alive.
class Conversation {
 public:
  Conversation(Conversation&&) noexcept;
  Conversation& operator=(Conversation&&) noexcept;
  ~Conversation();

  // Answers the next question. A reply that was cut short is remembered as far as `text` goes; when
  // there is none, or the call throws, the dialogue is as it was before. Throws kInvalidArgument
  // (also: the dialogue does not fit the model's positions), kResource (memory_limit), kCorrupt
  // (the model computes numbers that are not finite). A reply that reaches the last position ends
  // there (kLength).
  Reply ask(const Question& question,
            const GenerateOptions& options = {},
            const TextCallback& on_text = {});

  // Positions that what was said so far takes in the KV cache.
  std::int64_t positions() const;

 private:
  friend class Session;
  struct State;
  explicit Conversation(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A loaded model. Copies are cheap and share its weights.
class Session {
 public:
  // Throws what the loaders throw: kNotFound, kCorrupt, kUnsupported, naming file and tensor; and
  // kResource when the weights alone exceed options.memory_limit.
  static Session open(const std::filesystem::path& model, const SessionOptions& options = {});

  // Another session on the same weights, whose replies keep keys and values in another format.
  Session with_kv_cache(KvFormat format) const;

  // Answers one question: start().ask(). Safe to call from several threads at once: the weights
  // are shared, everything else belongs to the call.
  Reply generate(const Question& question,
                 const GenerateOptions& options = {},
                 const TextCallback& on_text = {}) const;

  // Begins a dialogue. `system`: what is said before the first question; may be empty.
  Conversation start(const std::string& system = {}) const;

  SessionInfo info() const;
  // Bytes that count towards SessionOptions::memory_limit now.
  std::int64_t memory_in_use() const;

 private:
  friend class Conversation;
  struct State;
  Session(std::shared_ptr<const State> state, KvFormat kv_cache);
  std::shared_ptr<const State> state_;
  KvFormat kv_cache_;
};

// What this process takes of the machine's memory, in bytes; zeros where the system does not tell.
struct ProcessMemory {
  std::int64_t resident = 0;  // now, pages of mapped files included
  std::int64_t peak = 0;      // the most so far
};
ProcessMemory process_memory();

}  // namespace qvlm
