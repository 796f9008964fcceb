// Remembers the ids of words. Text repeats its words, and a look-up is several times cheaper than
// merging.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

namespace qvlm {

// Words to ids, at most a few MB: when full it forgets everything and starts again. Not
// thread-safe.
class WordCache {
 public:
  // The ids of the word, or null. The pointer is good until the next insert.
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t word = 0;  // begins here in words_
    std::uint32_t size = 0;  // bytes; 0: a free slot
    std::uint32_t ids = 0;   // begin here in ids_
    std::uint32_t count = 0;
  };

  // Appends the ids of a word that is known; otherwise appends what encode(word, ids) appends, and
  // remembers it.
  template <typename Encode>
  void append(std::string_view word, std::vector<std::int32_t>& ids, const Encode& encode) {
    const std::uint64_t hash = hash_of(word);
    if (const Entry* entry = find(word, hash)) {
      ids.insert(ids.end(), ids_.begin() + entry->ids, ids_.begin() + entry->ids + entry->count);
      return;
    }
    const std::size_t begin = ids.size();
    encode(word, ids);
    insert(word, hash, std::span(ids).subspan(begin));
  }

 private:
  static std::uint64_t hash_of(std::string_view word);
  const Entry* find(std::string_view word, std::uint64_t hash) const;
  void insert(std::string_view word, std::uint64_t hash, std::span<const std::int32_t> ids);

  std::vector<Entry> slots_;
  std::vector<char> words_;
  std::vector<std::int32_t> ids_;
  std::size_t used_ = 0;
};

// A cache for each caller at a time: as many as threads encode at once, at most kCaches; beyond
// that a caller gets an empty one of its own.
class WordCachePool {
 public:
  // Calls use(cache) with a cache that no other thread uses meanwhile.
  template <typename Use>
  void with_cache(const Use& use) {
    for (auto& slot : slots_) {
      const std::unique_lock lock(slot.mutex, std::try_to_lock);
      if (lock.owns_lock()) return use(slot.cache);
    }
    WordCache own;
    use(own);
  }

 private:
  static constexpr std::size_t kCaches = 4;
  struct Slot {
    std::mutex mutex;
    WordCache cache;
  };
  std::array<Slot, kCaches> slots_;
};

}  // namespace qvlm
