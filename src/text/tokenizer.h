// Tokenizer: text <-> ids, from a Hugging Face tokenizer.json. Byte-level BPE (GPT-2, Qwen, Llama
// 3) and SentencePiece-style BPE with byte fallback (Llama 2, Phi-3). Equal to the `tokenizers`
// package, id for id; the file's truncation and padding are left to the caller, as transformers
// does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qvlm {

class Tokenizer {
 public:
  // Reads tokenizer.json. Throws kNotFound, kCorrupt, or kUnsupported for a component we would
  // compute wrongly.
  static Tokenizer load(const std::filesystem::path& file);
  static Tokenizer parse(std::string_view json, std::string_view source);

  // Ids of UTF-8 text (invalid bytes become U+FFFD). add_special: with what the post-processor adds
  // (BOS).
  std::vector<std::int32_t> encode(std::string_view text, bool add_special) const;
  // Text of ids. skip_special leaves special tokens out. An id without a token (a model's
  // vocabulary may be padded) has no text, as with the reference.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  std::optional<std::int32_t> find_id(std::string_view token) const;
  std::optional<std::string_view> find_token(std::int32_t id) const;
  std::string_view token(std::int32_t id) const;  // throws kInvalidArgument
  std::int32_t size() const;                      // highest id + 1

 private:
  friend class StreamDecoder;
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;  // immutable, shared by copies and threads
};

// Turns a stream of ids into text pieces that are always whole UTF-8 characters; what all pieces
// join to is decode(all ids).
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  std::string push(std::int32_t id);  // what can be shown now, possibly empty
  std::string finish();               // what was held back

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qvlm
