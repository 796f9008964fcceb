// Decoders: tokens back to text, as a chain of steps that tokens flow through one at a time. Whole
// texts and streams take the same way, so what a stream shows is what decode() gives. Read from the
// "decoder" of a tokenizer.json: Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip and
// Metaspace.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace qvlm {

// One step at work. `emit` passes a token on; tokens are valid UTF-8.
class DecodeStep {
 public:
  using Emit = std::function<void(std::string&&)>;
  virtual ~DecodeStep() = default;
  virtual void push(std::string&& token, const Emit& emit) = 0;
  // The end: passes on what was held back.
  virtual void finish(const Emit& emit) { static_cast<void>(emit); }
};

// The state of one text on its way through all steps.
class DecodeChain {
 public:
  explicit DecodeChain(std::vector<std::unique_ptr<DecodeStep>> steps) : steps_(std::move(steps)) {}

  // Appends to `text` what is certain after this token, whole characters only.
  void push(std::string_view token, std::string& text);
  void finish(std::string& text);

 private:
  void pass(std::size_t step, std::string&& token, std::string& text);

  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

// What the chain is made of; immutable.
class TextDecoder {
 public:
  // `component` may be null: tokens are joined by spaces. Throws kUnsupported naming a type, or an
  // order of steps, that we would compute wrongly.
  static TextDecoder parse(const Json& component);
  DecodeChain start() const;

 private:
  using Make = std::function<std::unique_ptr<DecodeStep>()>;
  void add(const Json& component);

  std::vector<Make> steps_;
  bool fused_ = false;  // from here on the text is one token that arrives in fragments
};

}  // namespace qvlm
