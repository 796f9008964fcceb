// Pre-tokenizers: how a normalized text is split to the words that BPE merges within. Read from the
// "pre_tokenizer" of a tokenizer.json: Sequence, Split, ByteLevel, Digits and Metaspace.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace qvlm {

// The words of one text: views into it, or into `changed` where a step changed them.
struct Words {
  std::vector<std::string_view> words;
  std::vector<std::string_view> scratch;
  std::deque<std::string> changed;  // a deque, because the views must stay good while it grows
};

class Pretokenizer {
 public:
  // `component` may be null: the whole text is one word. Throws kUnsupported naming a type, an
  // option or an order of steps we would compute wrongly.
  static Pretokenizer parse(const Json& component);

  // Splits `text` (valid UTF-8, must outlive `out`). at_start: it begins where the whole input
  // begins.
  void split(std::string_view text, bool at_start, Words& out) const;

  // Whether words stand for their bytes, each written as the character to_byte_level() gives;
  // split() leaves them unwritten, since a cache can know them as they are.
  bool byte_level() const { return byte_level_; }
  // Whether what split() does depends on at_start.
  bool depends_on_start() const { return depends_on_start_; }

 private:
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  struct Split {
    Regex pattern;
    Behavior behavior;
    bool invert;
  };
  struct PrefixSpace {};  // ByteLevel's add_prefix_space
  enum class Prepend { kAlways, kFirst, kNever };
  struct Metaspace {
    std::string mark;
    Prepend prepend;
  };
  using Step = std::variant<Split, PrefixSpace, Metaspace>;

  static Behavior parse_behavior(const Json& component);
  void add(const Json& component);
  void add_metaspace(const Json& component);
  static void split_word(const Split& split, std::string_view word, Words& out);
  static void prefix_space(std::string_view word, Words& out);
  static void mark_spaces(const Metaspace& step, bool at_start, std::string_view word, Words& out);

  std::vector<Step> steps_;
  bool byte_level_ = false;
  bool depends_on_start_ = false;
};

// GPT-2's way of writing any byte as a visible character.
std::string to_byte_level(std::string_view bytes);
// The bytes that a token written so stands for; nothing if it has a character that stands for no
// byte.
bool from_byte_level(std::string_view token, std::string& bytes);

}  // namespace qvlm
