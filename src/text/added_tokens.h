// Added tokens: texts such as "<s>" or "<|im_end|>" that are cut out of the input before anything
// else happens to it, each becoming its own id.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/regex.h"

namespace qvlm {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;      // left out by decode(skip_special)
  bool normalized = false;   // looked for in the normalized text
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space on its left along
  bool rstrip = false;
};

// Finds the longest of some texts at the leftmost place.
class TextFinder {
 public:
  void add(std::string_view text, std::size_t value);
  struct Match {
    Span span;
    std::size_t value;
  };
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  // By first byte: the lengths of the texts that begin with it, longest first.
  std::array<std::vector<std::size_t>, 256> lengths_;
  std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>> values_;
};

class AddedTokens {
 public:
  // Reads the "added_tokens" array. Throws kUnsupported when an id is not the one the reference
  // gives.
  static AddedTokens parse(const Json& array,
                           const Vocabulary& vocabulary,
                           const Normalizer& normalizer);

  // A stretch of text, with an id when it is an added token.
  struct Part {
    Span span;
    std::optional<std::int32_t> id;
  };
  // Cuts a text at the tokens that are looked for before, or after, normalization.
  std::vector<Part> cut_raw(std::string_view text) const { return cut(raw_, text); }
  std::vector<Part> cut_normalized(std::string_view text) const { return cut(normalized_, text); }

  const AddedToken* find(std::string_view content) const;
  const AddedToken* find(std::int32_t id) const;
  std::int32_t size() const { return size_; }  // highest id + 1

 private:
  std::vector<Part> cut(const TextFinder& finder, std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> by_content_;
  std::unordered_map<std::int32_t, std::size_t> by_id_;
  TextFinder raw_;
  TextFinder normalized_;
  std::int32_t size_ = 0;
};

}  // namespace qvlm
