// The bytes that one model's weights and replies may take together. A reservation is a promise made
// before the memory is allocated, and ends with its owner.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace qvlm {

// Any number of threads may reserve at once.
class MemoryBudget {
 public:
  // Part of the budget, given back when it goes. The budget must live longer.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept;
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation();

   private:
    friend class MemoryBudget;
    Reservation(MemoryBudget& budget, std::int64_t bytes) : budget_(&budget), bytes_(bytes) {}
    MemoryBudget* budget_ = nullptr;
    std::int64_t bytes_ = 0;
  };

  explicit MemoryBudget(std::int64_t limit) : limit_(limit) {}  // 0: none

  // Throws kResource "<what> ..." with the bytes wanted, in use and allowed.
  Reservation reserve(std::int64_t bytes, std::string_view what);
  std::int64_t in_use() const { return in_use_; }

 private:
  std::int64_t limit_;
  std::atomic<std::int64_t> in_use_ = 0;
};

}  // namespace qvlm
