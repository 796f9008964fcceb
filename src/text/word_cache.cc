#include "text/word_cache.h"

#include <cstring>

namespace qvlm {
namespace {

constexpr std::size_t kSlots = 1 << 15;  // 24 bytes each
constexpr std::size_t kMaxEntries = kSlots / 2;
constexpr std::size_t kMaxWord = 64;  // longer words hardly ever come back

}  // namespace

// Eight bytes at a time, multiplied and folded; the length keeps zero bytes apart.
std::uint64_t WordCache::hash_of(std::string_view word) {
  std::uint64_t hash = word.size() * 0x9E3779B97F4A7C15ull;
  for (std::size_t at = 0; at < word.size(); at += 8) {
    std::uint64_t chunk = 0;
    std::memcpy(&chunk, word.data() + at, word.size() - at < 8 ? word.size() - at : 8);
    hash = (hash ^ chunk) * 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  }
  return hash;
}

const WordCache::Entry* WordCache::find(std::string_view word, std::uint64_t hash) const {
  if (slots_.empty()) return nullptr;
  for (std::size_t i = hash % kSlots; slots_[i].size != 0; i = (i + 1) % kSlots) {
    const Entry& entry = slots_[i];
    if (entry.hash == hash && word == std::string_view(words_.data() + entry.word, entry.size)) {
      return &entry;
    }
  }
  return nullptr;
}

void WordCache::insert(std::string_view word,
                       std::uint64_t hash,
                       std::span<const std::int32_t> ids) {
  if (word.empty() || word.size() > kMaxWord) return;
  if (slots_.empty() || used_ == kMaxEntries) {
    slots_.assign(kSlots, {});
    words_.clear();
    ids_.clear();
    used_ = 0;
  }
  std::size_t i = hash % kSlots;
  while (slots_[i].size != 0)
    i = (i + 1) % kSlots;
  slots_[i] = {hash, static_cast<std::uint32_t>(words_.size()),
               static_cast<std::uint32_t>(word.size()), static_cast<std::uint32_t>(ids_.size()),
               static_cast<std::uint32_t>(ids.size())};
  words_.insert(words_.end(), word.begin(), word.end());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

}  // namespace qvlm
