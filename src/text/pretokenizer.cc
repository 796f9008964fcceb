#include "text/pretokenizer.h"

#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "text/normalizer.h"
#include "text/utf8.h"

namespace qvlm {
namespace {

// What ByteLevel splits by when use_regex is true; the files do not spell it out.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Digits asks Rust's char::is_numeric, whose Unicode is newer than that of the regular expressions.
constexpr std::string_view kNumeric = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";

// Visible Latin-1 characters stand for themselves; the other bytes, in order, for U+0100 and on.
struct ByteLevelTables {
  std::array<char16_t, 256> character{};
  std::array<std::int16_t, 0x200> byte{};
  ByteLevelTables() {
    byte.fill(-1);
    char16_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool visible = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
      character[b] = visible ? static_cast<char16_t>(b) : next++;
      byte[character[b]] = static_cast<std::int16_t>(b);
    }
  }
};

const ByteLevelTables& tables() {
  static const ByteLevelTables instance;
  return instance;
}

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    append_character(tables().character[static_cast<unsigned char>(byte)], text);
  }
  return text;
}

bool from_byte_level(std::string_view token, std::string& bytes) {
  bytes.clear();
  for (std::size_t at = 0; at < token.size();) {
    const Character character = character_at(token, at);
    if (character.code >= tables().byte.size() || tables().byte[character.code] < 0) return false;
    bytes.push_back(static_cast<char>(tables().byte[character.code]));
    at += character.size;
  }
  return true;
}

Pretokenizer Pretokenizer::parse(const Json& component) {
  Pretokenizer pretokenizer;
  if (!component.is_null()) pretokenizer.add(component);
  return pretokenizer;
}

void Pretokenizer::add(const Json& component) {
  const std::string type = component.get_string("type");
  require(!byte_level_, ErrorKind::kUnsupported, component.where(), ": ", type, " after ByteLevel");
  if (type == "Sequence") {
    component.get("pretokenizers").for_each([&](const std::string&, const Json& step) {
      add(step);
    });
  } else if (type == "Split") {
    auto pattern = parse_pattern(component.get("pattern"));
    auto* text = std::get_if<std::string>(&pattern);
    steps_.emplace_back(
        Split{text != nullptr ? Regex::literal(*text, component.where()) : std::get<Regex>(pattern),
              parse_behavior(component), component.get_bool("invert", false)});
  } else if (type == "Digits") {
    const bool single = component.get_bool("individual_digits", false);
    steps_.emplace_back(Split{Regex(kNumeric, component.where()),
                              single ? Behavior::kIsolated : Behavior::kContiguous, false});
  } else if (type == "ByteLevel") {
    if (component.get_bool("add_prefix_space")) steps_.emplace_back(PrefixSpace{});
    if (component.get_bool("use_regex", true)) {
      steps_.emplace_back(
          Split{Regex(kGpt2Pattern, component.where()), Behavior::kIsolated, false});
    }
    byte_level_ = true;
  } else if (type == "Metaspace") {
    add_metaspace(component);
  } else {
    fail(ErrorKind::kUnsupported, component.where(), ": the pre-tokenizer '", type, "'");
  }
}

Pretokenizer::Behavior Pretokenizer::parse_behavior(const Json& component) {
  const std::string name = component.get_string("behavior");
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fail(ErrorKind::kUnsupported, component.where(), ": the behavior '", name, "'");
}

void Pretokenizer::add_metaspace(const Json& component) {
  Metaspace step{component.get_string("replacement"), Prepend::kAlways};
  // Files from before prepend_scheme say add_prefix_space.
  const bool prefix = component.get_bool("add_prefix_space", true);
  const std::string scheme = component.get_string("prepend_scheme", prefix ? "always" : "never");
  if (scheme == "first") {
    step.prepend = Prepend::kFirst;
    depends_on_start_ = true;
    // Where a later word began in the input is not tracked.
    require(steps_.empty(), ErrorKind::kUnsupported, component.where(),
            ": prepend_scheme 'first' after another pre-tokenizer");
  } else if (scheme == "never") {
    step.prepend = Prepend::kNever;
  } else {
    require(scheme == "always", ErrorKind::kUnsupported, component.where(),
            ": the prepend_scheme '", scheme, "'");
  }
  const bool split = component.get_bool("split", true);
  const std::string mark = step.mark;
  steps_.emplace_back(std::move(step));
  if (split) {
    steps_.emplace_back(
        Split{Regex::literal(mark, component.where()), Behavior::kMergedWithNext, false});
  }
}

void Pretokenizer::split(std::string_view text, bool at_start, Words& out) const {
  out.words.clear();
  out.changed.clear();
  if (text.empty()) return;
  out.words.push_back(text);
  for (const Step& step : steps_) {
    out.scratch.clear();
    for (const std::string_view word : out.words) {
      if (const auto* pattern = std::get_if<Split>(&step)) {
        split_word(*pattern, word, out);
      } else if (const auto* metaspace = std::get_if<Metaspace>(&step)) {
        mark_spaces(*metaspace, at_start, word, out);
      } else {
        prefix_space(word, out);
      }
    }
    out.words.swap(out.scratch);
  }
}

void Pretokenizer::prefix_space(std::string_view word, Words& out) {
  if (!word.starts_with(' ')) {
    out.changed.push_back(" ");
    out.changed.back() += word;
    word = out.changed.back();
  }
  out.scratch.push_back(word);
}

void Pretokenizer::mark_spaces(const Metaspace& step,
                               bool at_start,
                               std::string_view word,
                               Words& out) {
  std::string text;
  text.reserve(word.size() + word.size() / 2 + step.mark.size());
  const bool marked = word.starts_with(step.mark) || word.starts_with(' ');
  const bool wanted =
      step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && at_start);
  if (wanted && !marked) text = step.mark;
  for (const char c : word) {
    if (c == ' ') {
      text += step.mark;
    } else {
      text += c;
    }
  }
  out.changed.push_back(std::move(text));
  out.scratch.push_back(out.changed.back());
}

// The text is a row of parts, matches and gaps in turn; `behavior` says which parts join or go.
void Pretokenizer::split_word(const Split& split, std::string_view word, Words& out) {
  std::optional<Span> held;  // the last part, while something may still join it
  bool held_match = false;   // its newest piece was a match
  const auto emit = [&](const Span& part) {
    out.scratch.push_back(word.substr(part.begin, part.end - part.begin));
  };
  const auto part = [&](const Span& span, bool match) {
    if (span.begin == span.end) return;
    bool join = false;
    switch (split.behavior) {
      case Behavior::kIsolated:
        return emit(span);
      case Behavior::kRemoved:
        if (!match) emit(span);
        return;
      case Behavior::kContiguous:
        join = match == held_match;
        break;
      case Behavior::kMergedWithPrevious:
        join = match && !held_match;
        break;
      case Behavior::kMergedWithNext:
        join = !match && held_match;
        break;
    }
    if (held && join) {
      held->end = span.end;
    } else {
      if (held) emit(*held);
      held = span;
    }
    held_match = match;
  };
  std::size_t done = 0;
  split.pattern.for_each_match(word, [&](const Span& match) {
    part({done, match.begin}, split.invert);
    part(match, !split.invert);
    done = match.end;
  });
  part({done, word.size()}, split.invert);
  if (held) emit(*held);
}

}  // namespace qvlm
