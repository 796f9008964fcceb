// Normalizers: what happens to a text before it is split to words. Read from the "normalizer" of a
// tokenizer.json: Sequence, Prepend, Replace, NFC and Strip.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace qvlm {

// Literal or regular expression to replace, as {"String": ...} or {"Regex": ...}; decoders use it
// too.
class Replacement {
 public:
  static Replacement parse(const Json& component);
  // The text with each match replaced.
  std::string apply(std::string_view text) const;
  bool keeps_length_positive() const { return !content_.empty(); }

 private:
  std::variant<std::string, Regex> pattern_;
  std::string content_;
};

// Reads a pattern object. A literal comes back as text.
std::variant<std::string, Regex> parse_pattern(const Json& pattern);

class Normalizer {
 public:
  // `component` may be null: no normalizer. Throws kUnsupported naming a type we do not compute.
  static Normalizer parse(const Json& component);

  bool empty() const { return steps_.empty(); }
  void apply(std::string& text) const;
  // Whether the first character of the result always comes from the first of the text.
  bool keeps_start() const;

 private:
  struct Prepend {
    std::string text;
  };
  struct Nfc {};
  struct Strip {
    bool left;
    bool right;
  };
  using Step = std::variant<Prepend, Replacement, Nfc, Strip>;
  void add(const Json& component);

  std::vector<Step> steps_;
};

}  // namespace qvlm
