#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <queue>

#include "base/error.h"
#include "text/utf8.h"

namespace qvlm {
namespace {

// Above this many symbols a queue beats scanning all pairs for each merge.
constexpr std::size_t kShortWord = 48;
constexpr std::uint64_t kFree = std::numeric_limits<std::uint64_t>::max();
constexpr std::int64_t kMaxId = 1 << 24;

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

// Merges a long word: a queue of candidates over a linked list of symbols, O(n log n). A symbol
// that was merged into the one before it becomes -1.
class MergeQueue {
 public:
  MergeQueue(const MergeTable& merges, std::vector<std::int32_t>& ids)
      : merges_(merges), ids_(ids), links_(ids.size()) {
    const auto size = static_cast<std::int32_t>(ids.size());
    for (std::int32_t i = 0; i < size; ++i)
      links_[i] = {i - 1, i + 1 < size ? i + 1 : -1};
    for (std::int32_t i = 0; i < size; ++i)
      propose(i);
  }

  void run() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto at = static_cast<std::int32_t>(top.order & 0xFFFFFFFF);
      const std::int32_t next = links_[at].next;
      if (next < 0 || ids_[at] != top.left || ids_[next] != top.right) continue;
      ids_[at] = top.id;
      ids_[next] = -1;
      links_[at].next = links_[next].next;
      if (links_[at].next >= 0) links_[links_[at].next].previous = at;
      propose(at);
      if (links_[at].previous >= 0) propose(links_[at].previous);
    }
  }

 private:
  struct Link {
    std::int32_t previous;
    std::int32_t next;
  };
  struct Candidate {
    std::uint64_t order;  // rank, then position
    std::int32_t left;    // what stood here when the candidate was made; else it is stale
    std::int32_t right;
    std::int32_t id;
    bool operator<(const Candidate& other) const { return order > other.order; }
  };

  void propose(std::int32_t at) {
    const std::int32_t next = links_[at].next;
    if (next < 0) return;
    const auto* merge = merges_.find(ids_[at], ids_[next]);
    if (merge == nullptr) return;
    const std::uint64_t rank = merge->rank;
    queue_.push({rank << 32 | static_cast<std::uint32_t>(at), ids_[at], ids_[next], merge->id});
  }

  const MergeTable& merges_;
  std::vector<std::int32_t>& ids_;
  std::vector<Link> links_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

void Vocabulary::add(std::string token, std::int64_t id, std::string_view where) {
  require(id >= 0 && id < kMaxId, ErrorKind::kCorrupt, where, ": the id ", id, " of '", token, "'");
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens_.size()) {
    tokens_.resize(index + 1);
    present_.resize(index + 1);
  }
  require(!present_[index], ErrorKind::kCorrupt, where, ": two tokens have the id ", id);
  tokens_[index] = std::move(token);
  present_[index] = true;
}

void Vocabulary::build_index(std::string_view where) {
  index_.reserve(tokens_.size());
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    if (!present_[id]) continue;
    const bool fresh = index_.emplace(tokens_[id], static_cast<std::int32_t>(id)).second;
    require(fresh, ErrorKind::kCorrupt, where, ": the token '", tokens_[id], "' is there twice");
  }
}

std::optional<std::int32_t> Vocabulary::find(std::string_view token) const {
  const auto found = index_.find(token);
  return found == index_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* Vocabulary::find(std::int32_t id) const {
  const auto index = static_cast<std::size_t>(id);
  return id >= 0 && index < tokens_.size() && present_[index] ? &tokens_[index] : nullptr;
}

// At most half of the slots are taken, so that a miss ends after one or two probes.
void MergeTable::reserve(std::size_t count) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(count * 2, 16));
  slots_.assign(size, {kFree, {}});
  shift_ = 64 - std::countr_zero(size);
}

// Fibonacci hashing: the high bits of a product with 2^64 / golden ratio.
std::size_t MergeTable::slot(std::uint64_t key) const {
  return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15ull) >> shift_);
}

void MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t key = pair_key(left, right);
  std::size_t i = slot(key);
  while (slots_[i].key != kFree && slots_[i].key != key)
    i = (i + 1) & (slots_.size() - 1);
  slots_[i] = {key, merge};
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  for (std::size_t i = slot(key);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].key == key) return &slots_[i].merge;
    if (slots_[i].key == kFree) return nullptr;
  }
}

Bpe Bpe::parse(const Json& model) {
  const std::string type = model.get_string("type", "BPE");
  require(type == "BPE", ErrorKind::kUnsupported, model.where(), ": the model '", type,
          "' (only BPE)");
  Bpe bpe;
  bpe.parse_vocabulary(model);
  bpe.parse_options(model);
  bpe.parse_merges(model.get("merges"));
  bpe.index_characters();
  return bpe;
}

void Bpe::parse_vocabulary(const Json& model) {
  const Json vocabulary = model.get("vocab");
  require(vocabulary.is_object(), ErrorKind::kCorrupt, vocabulary.where(), ": expected an object");
  const std::string where = vocabulary.where();
  vocabulary.for_each([&](const std::string& token, const Json& id) {
    vocabulary_.add(token, id.as_int(), where);
  });
  vocabulary_.build_index(where);
}

void Bpe::parse_options(const Json& model) {
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string value = model.get_string(affix, "");
    require(value.empty(), ErrorKind::kUnsupported, model.where(), ": ", affix, " '", value, "'");
  }
  const double dropout = model.get_double("dropout", 0);
  require(dropout == 0, ErrorKind::kUnsupported, model.where(), ": dropout ", dropout);
  fuse_unknown_ = model.get_bool("fuse_unk", false);
  ignore_merges_ = model.get_bool("ignore_merges", false);
  const Json unknown = model.find("unk_token");
  if (!unknown.is_null()) {
    unknown_ = vocabulary_.find(unknown.as_string());
    require(unknown_.has_value(), ErrorKind::kCorrupt, unknown.where(), ": not in the vocabulary");
  }
  if (!model.get_bool("byte_fallback", false)) return;
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const std::string token = {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
    const auto id = vocabulary_.find(token);
    require(id.has_value(), ErrorKind::kUnsupported, model.where(),
            ": byte_fallback with a vocabulary that lacks ", token);
    byte_ids_.push_back(*id);
  }
}

void Bpe::parse_merges(const Json& merges) {
  require(merges.is_array(), ErrorKind::kCorrupt, merges.where(), ": expected an array");
  merges_.reserve(merges.size());
  std::uint32_t rank = 0;
  std::string joined;
  merges.for_each([&](const std::string&, const Json& merge) {
    std::string left;
    std::string right;
    if (merge.is_string()) {
      left = merge.as_string();
      if (left.starts_with("#version")) return;
      const std::size_t space = left.find(' ');
      const bool pair =
          space != std::string::npos && left.find(' ', space + 1) == std::string::npos;
      require(pair, ErrorKind::kCorrupt, merge.where(), ": expected two tokens, got '", left, "'");
      right = left.substr(space + 1);
      left.resize(space);
    } else {
      require(merge.is_array() && merge.size() == 2, ErrorKind::kCorrupt, merge.where(),
              ": no pair");
      left = merge.at(0).as_string();
      right = merge.at(1).as_string();
    }
    joined = left + right;
    const auto a = vocabulary_.find(left);
    const auto b = vocabulary_.find(right);
    const auto both = vocabulary_.find(joined);
    require(a && b && both, ErrorKind::kCorrupt, merge.where(), ": '", left, "', '", right,
            "' or what they join to is not in the vocabulary");
    merges_.set(*a, *b, {rank++, *both});
    if (right.starts_with(kSpaceMark) && !left.ends_with(kSpaceMark)) may_cut_ = false;
  });
}

void Bpe::index_characters() {
  character_ids_.assign(0x10000, -1);
  for (std::int32_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string* token = vocabulary_.find(id);
    if (token == nullptr || token->empty()) continue;
    const Character first = character_at(*token, 0);
    if (first.size == token->size() && first.code < 0x10000) character_ids_[first.code] = id;
  }
  // A cut must not end a run of unknown characters that would be fused, nor hide the word from
  // ignore_merges.
  may_cut_ = may_cut_ && !ignore_merges_ && vocabulary_.find(kSpaceMark).has_value();
}

std::vector<std::int32_t> Bpe::symbols(std::string_view word) const {
  std::vector<std::int32_t> ids;
  ids.reserve(word.size());
  bool after_unknown = false;
  for (std::size_t at = 0; at < word.size();) {
    const Character character = character_at(word, at);
    const std::string_view text = word.substr(at, character.size);
    at += character.size;
    std::int32_t id = -1;
    if (character.code < 0x10000) {
      id = character_ids_[character.code];
    } else if (const auto found = vocabulary_.find(text)) {
      id = *found;
    }
    const bool known = id >= 0 || !byte_ids_.empty();
    if (id >= 0) {
      ids.push_back(id);
    } else if (!byte_ids_.empty()) {
      for (const char byte : text)
        ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
    } else if (unknown_ && !(after_unknown && fuse_unknown_)) {
      ids.push_back(*unknown_);  // without an unknown token the character disappears
    }
    after_unknown = !known;
  }
  return ids;
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto whole = vocabulary_.find(word)) {
      ids.push_back(*whole);
      return;
    }
  }
  std::vector<std::int32_t> merged = symbols(word);
  if (merged.size() <= kShortWord) {
    merge_short(merged);
  } else {
    merge_long(merged);
  }
  ids.insert(ids.end(), merged.begin(), merged.end());
}

// Both forms do the same: of all pairs that have a merge, the one of the lowest rank (the leftmost
// of equals) is merged, until none is left.
void Bpe::merge_short(std::vector<std::int32_t>& ids) const {
  constexpr MergeTable::Merge none = {std::numeric_limits<std::uint32_t>::max(), -1};
  std::array<MergeTable::Merge, kShortWord> pairs;  // pairs[i]: what ids[i] and ids[i + 1] become
  const auto look_up = [&](std::size_t i) {
    const auto* merge = merges_.find(ids[i], ids[i + 1]);
    pairs[i] = merge != nullptr ? *merge : none;
  };
  std::size_t count = ids.size();
  for (std::size_t i = 0; i + 1 < count; ++i)
    look_up(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].id < 0) break;
    ids[best] = pairs[best].id;
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      pairs[i - 1] = pairs[i];
    }
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  ids.resize(count);
}

void Bpe::merge_long(std::vector<std::int32_t>& ids) const {
  MergeQueue(merges_, ids).run();
  std::erase(ids, -1);
}

}  // namespace qvlm
