// Memory that a thread keeps for kernels to work in: it grows to the most that was asked for, so
// that a call does not allocate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace qvlm::kernels {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(bytes_, kAlignment); }

  // Memory of `size` bytes, aligned to 64, with any content; valid until the next call.
  std::uint8_t* get(std::int64_t size) {
    if (size > size_) {
      ::operator delete(std::exchange(bytes_, nullptr), kAlignment);
      size_ = 0;
      bytes_ =
          static_cast<std::uint8_t*>(::operator new(static_cast<std::size_t>(size), kAlignment));
      size_ = size;
    }
    return bytes_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  std::uint8_t* bytes_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace qvlm::kernels
