// Running a model: load a folder once, then ask questions about images.
//
//   qvlm::Session session = qvlm::Session::open("models/reference-llava");
//   qvlm::Reply reply = session.generate({.text = "What colour is the circle?",
//                                         .images = {qvlm::Image::load("scene.png")}});
#pragma once

#include <qvlm/image.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
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

// How keys and values of past positions are kept; sums and the softmax are always in float32. What
// each costs and gains: docs/performance.md, "KV cache".
enum class KvFormat {
  kFloat32,   // as computed: the answers of the reference implementation
  kBfloat16,  // half the memory and the reading per token, rounded to 8 bits of precision
  kInt8,      // a quarter, with a scale per token and head; outlier channels lose most
};

struct SessionOptions {
  Execution execution = Execution::kPacked;
  KvFormat kv_cache = KvFormat::kFloat32;
  // A file that keeps the weights as the kernels want them, beside the checkpoint: made by the
  // first load, mapped by later ones, made anew when the checkpoint has changed. Empty: none.
  std::filesystem::path packed_cache;
};

struct Question {
  std::string text;
  std::vector<Image> images;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 64;
  double temperature = 0.0;  // 0: greedy
  std::int64_t top_k = 0;    // 0: all tokens
  double top_p = 1.0;
  std::uint64_t seed = 0;  // same seed, same reply
  std::vector<std::string>
      stop;  // generation ends before the first of these; also at the model's own end token
};

enum class StopReason { kEndToken, kStopText, kLength, kCallback };

struct Reply {
  std::string text;
  std::vector<std::int32_t> ids;
  std::int64_t prompt_tokens = 0;  // image positions included
  StopReason stop_reason = StopReason::kLength;
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
};

class Session {
 public:
  // Throws what the loaders throw: kNotFound, kCorrupt, kUnsupported, naming file and tensor.
  static Session open(const std::filesystem::path& model, const SessionOptions& options = {});

  // Answers one question. `on_text` gets each piece (whole UTF-8 characters) as it is decided;
  // false stops. Throws kInvalidArgument when the prompt does not fit the model's positions; an
  // answer that reaches their end stops there (kLength). Safe to call from several threads at once:
  // the weights are shared, everything else belongs to the call.
  Reply generate(const Question& question,
                 const GenerateOptions& options = {},
                 const std::function<bool(std::string_view)>& on_text = {}) const;

 private:
  struct State;
  explicit Session(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace qvlm
