#include "text/decoder.h"

#include <charconv>
#include <optional>

#include "base/error.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/utf8.h"

namespace qvlm {
namespace {

// Characters of GPT-2's alphabet to bytes, bytes to text. A token with any other character is its
// own bytes.
class ByteLevelStep : public DecodeStep {
 public:
  void push(std::string&& token, const Emit& emit) override {
    bytes_ += from_byte_level(token, token_bytes_) ? token_bytes_ : token;
    pass(false, emit);
  }
  void finish(const Emit& emit) override { pass(true, emit); }

 private:
  void pass(bool last, const Emit& emit) {
    std::string text;
    bytes_.erase(0, append_repaired(bytes_, last, text));
    emit(std::move(text));
  }
  std::string bytes_;  // an unfinished character
  std::string token_bytes_;
};

class ReplaceStep : public DecodeStep {
 public:
  explicit ReplaceStep(const Replacement& replacement) : replacement_(replacement) {}
  void push(std::string&& token, const Emit& emit) override { emit(replacement_.apply(token)); }

 private:
  const Replacement& replacement_;
};

// The value of "<0x41>", as Rust reads it: two hexadecimal digits of either case, or '+' and one
// digit.
std::optional<unsigned char> byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  std::string_view digits = token.substr(3, 2);
  if (digits[0] == '+') digits.remove_prefix(1);
  unsigned char value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// A run of byte tokens is text only if all of it is valid UTF-8; otherwise each byte is U+FFFD. So
// a run is held back until it ends.
class ByteFallbackStep : public DecodeStep {
 public:
  void push(std::string&& token, const Emit& emit) override {
    if (const auto byte = byte_of(token)) {
      run_.push_back(static_cast<char>(*byte));
      return;
    }
    finish(emit);
    emit(std::move(token));
  }

  void finish(const Emit& emit) override {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      emit(std::move(run_));
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i)
        emit("\xEF\xBF\xBD");
    }
    run_.clear();
  }

 private:
  std::string run_;
};

// Takes up to `start` characters off the front of a token and up to `stop` off its end. Fused: of
// the one token that the whole text is, so its last characters wait for the end.
class StripStep : public DecodeStep {
 public:
  StripStep(std::string content, std::size_t start, std::size_t stop, bool fused)
      : content_(std::move(content)), start_(start), stop_(stop), fused_(fused), left_(start) {}

  void push(std::string&& token, const Emit& emit) override {
    if (!fused_) left_ = start_;
    std::string text = held_ + token;
    std::size_t begin = 0;
    while (left_ > 0 && begin < text.size()) {
      if (text.compare(begin, content_.size(), content_) == 0) {
        begin += content_.size();
        --left_;
      } else {
        left_ = 0;
      }
    }
    std::size_t end = text.size();
    for (std::size_t i = 0; i < stop_ && end >= begin + content_.size(); ++i) {
      if (text.compare(end - content_.size(), content_.size(), content_) != 0) break;
      end -= content_.size();
    }
    if (fused_) held_ = text.substr(end);
    emit(text.substr(begin, end - begin));
  }

 private:
  std::string content_;
  std::size_t start_;
  std::size_t stop_;
  bool fused_;
  std::size_t left_;  // how many may still go in front
  std::string held_;  // at the end, if nothing follows
};

// Marks to spaces; the marks of the first token go when the pre-tokenizer put one there.
class MetaspaceStep : public DecodeStep {
 public:
  MetaspaceStep(std::string mark, bool drop_first) : mark_(std::move(mark)), drop_(drop_first) {}
  void push(std::string&& token, const Emit& emit) override {
    std::string text;
    std::size_t done = 0;
    for (std::size_t at = token.find(mark_); at != std::string::npos;
         at = token.find(mark_, done)) {
      text.append(token, done, at - done);
      if (!drop_) text += ' ';
      done = at + mark_.size();
    }
    text.append(token, done);
    drop_ = false;
    emit(std::move(text));
  }

 private:
  std::string mark_;
  bool drop_;
};

class JoinStep : public DecodeStep {
 public:
  void push(std::string&& token, const Emit& emit) override {
    if (!first_) token.insert(0, " ");
    first_ = false;
    emit(std::move(token));
  }

 private:
  bool first_ = true;
};

std::unique_ptr<DecodeStep> make_strip(const Json& component, bool fused) {
  const std::int64_t start = component.get_int("start");
  const std::int64_t stop = component.get_int("stop");
  const std::string content = component.get_string("content");
  require(start >= 0 && stop >= 0 && !content.empty(), ErrorKind::kCorrupt, component.where(),
          ": Strip needs a character and two counts");
  return std::make_unique<StripStep>(content, static_cast<std::size_t>(start),
                                     static_cast<std::size_t>(stop), fused);
}

std::unique_ptr<DecodeStep> make_metaspace(const Json& component) {
  const bool prefix = component.get_bool("add_prefix_space", true);
  const std::string scheme = component.get_string("prepend_scheme", prefix ? "always" : "never");
  return std::make_unique<MetaspaceStep>(component.get_string("replacement"), scheme != "never");
}

}  // namespace

void DecodeChain::pass(std::size_t step, std::string&& token, std::string& text) {
  if (step == steps_.size()) {
    text += token;
    return;
  }
  steps_[step]->push(std::move(token),
                     [&](std::string&& next) { pass(step + 1, std::move(next), text); });
}

void DecodeChain::push(std::string_view token, std::string& text) {
  pass(0, std::string(token), text);
}

void DecodeChain::finish(std::string& text) {
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    steps_[step]->finish([&](std::string&& next) { pass(step + 1, std::move(next), text); });
  }
}

TextDecoder TextDecoder::parse(const Json& component) {
  TextDecoder decoder;
  if (component.is_null()) {
    decoder.steps_.emplace_back([] { return std::make_unique<JoinStep>(); });
  } else {
    decoder.add(component);
  }
  return decoder;
}

void TextDecoder::add(const Json& component) {
  const std::string type = component.get_string("type");
  if (type == "Sequence") {
    component.get("decoders").for_each([&](const std::string&, const Json& step) { add(step); });
    return;
  }
  require(!fused_ || type == "Strip" || type == "Fuse", ErrorKind::kUnsupported, component.where(),
          ": the decoder '", type, "' after Fuse or ByteLevel");
  if (type == "ByteLevel") {
    steps_.emplace_back([] { return std::make_unique<ByteLevelStep>(); });
    fused_ = true;
  } else if (type == "Replace") {
    steps_.emplace_back([replacement = std::make_shared<Replacement>(
                             Replacement::parse(component))]() -> std::unique_ptr<DecodeStep> {
      return std::make_unique<ReplaceStep>(*replacement);
    });
  } else if (type == "ByteFallback") {
    steps_.emplace_back([] { return std::make_unique<ByteFallbackStep>(); });
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    make_strip(component, fused_);  // reports a bad component now
    steps_.emplace_back([component, fused = fused_] { return make_strip(component, fused); });
  } else if (type == "Metaspace") {
    make_metaspace(component);
    steps_.emplace_back([component] { return make_metaspace(component); });
  } else {
    fail(ErrorKind::kUnsupported, component.where(), ": the decoder '", type, "'");
  }
}

DecodeChain TextDecoder::start() const {
  std::vector<std::unique_ptr<DecodeStep>> steps;
  for (const Make& make : steps_)
    steps.push_back(make());
  return DecodeChain(std::move(steps));
}

}  // namespace qvlm
