// Byte-pair encoding: a vocabulary and its merges. Encodes one word (a piece of pre-tokenized text)
// at a time; splitting text to words is pretokenizer.h, remembering words is word_cache.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"

namespace qvlm {

// What SentencePiece writes for a space: U+2581.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// Tokens by id and by text. Ids may have holes.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(const Vocabulary&) = delete;  // the index of a copy would point into the original
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  // Throws kCorrupt when two tokens have the same text or an id is out of range.
  void add(std::string token, std::int64_t id, std::string_view where);
  // Call once after the last add().
  void build_index(std::string_view where);

  std::optional<std::int32_t> find(std::string_view token) const;
  const std::string* find(std::int32_t id) const;  // null for a hole
  std::int32_t size() const { return static_cast<std::int32_t>(tokens_.size()); }
  std::size_t count() const { return index_.size(); }

 private:
  std::vector<std::string> tokens_;
  std::vector<bool> present_;
  std::unordered_map<std::string_view, std::int32_t> index_;  // views into tokens_
};

// Which pair of tokens becomes which token, and how early: a hash table with open addressing,
// because one look-up per pair of symbols is where the time of encoding goes.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank;  // lower ranks merge first
    std::int32_t id;
  };
  void reserve(std::size_t count);
  void set(std::int32_t left, std::int32_t right, Merge merge);
  const Merge* find(std::int32_t left, std::int32_t right) const;

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };
  std::size_t slot(std::uint64_t key) const;

  std::vector<Slot> slots_;
  int shift_ = 63;
};

// Immutable after parse(); any number of threads may encode.
class Bpe {
 public:
  // Reads the "model" object of a tokenizer.json. Throws kUnsupported for another model or an
  // option that changes results in a way we do not compute.
  static Bpe parse(const Json& model);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Appends the ids of one word, valid UTF-8.
  void encode(std::string_view word, std::vector<std::int32_t>& ids) const;

  // Whether a word may be cut before each U+2581 that follows another character without changing
  // the ids: true when no merge joins such a pair. Models without a pre-tokenizer get the whole
  // text as one word; this turns it into words that a cache can remember.
  bool may_cut_before_space_mark() const { return may_cut_; }

 private:
  Bpe() = default;
  void parse_vocabulary(const Json& model);
  void parse_merges(const Json& merges);
  void parse_options(const Json& model);
  void index_characters();
  std::vector<std::int32_t> symbols(std::string_view word) const;
  void merge_short(std::vector<std::int32_t>& ids) const;
  void merge_long(std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<std::int32_t> character_ids_;  // of code points below 0x10000; -1: none
  std::vector<std::int32_t> byte_ids_;       // of <0x00> to <0xFF>; empty without byte fallback
  std::optional<std::int32_t> unknown_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  bool may_cut_ = true;
};

}  // namespace qvlm
