#include "runtime/memory_budget.h"

#include <utility>

#include "base/error.h"

namespace qvlm {

MemoryBudget::Reservation::Reservation(Reservation&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}

MemoryBudget::Reservation& MemoryBudget::Reservation::operator=(Reservation&& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MemoryBudget::Reservation::~Reservation() {
  if (budget_ != nullptr) budget_->in_use_ -= bytes_;
}

MemoryBudget::Reservation MemoryBudget::reserve(std::int64_t bytes, std::string_view what) {
  std::int64_t before = in_use_;
  do {
    require(limit_ == 0 || bytes <= limit_ - before, ErrorKind::kResource, what, " would take ",
            bytes, " bytes; ", before, " are in use, memory_limit allows ", limit_);
  } while (!in_use_.compare_exchange_weak(before, before + bytes));
  return Reservation(*this, bytes);
}

}  // namespace qvlm
