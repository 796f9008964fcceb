#include "io/finite.h"

#include <cstdint>
#include <cstring>

namespace qvlm {
namespace {

// A number is not finite when all bits of its exponent are set.
template <typename Bits>
bool is_finite(std::span<const std::byte> bytes, Bits exponent) {
  bool finite = true;
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(Bits)) {
    Bits bits = 0;
    std::memcpy(&bits, bytes.data() + at, sizeof(bits));
    finite &= (bits & exponent) != exponent;
  }
  return finite;
}

}  // namespace

bool is_finite(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::kF16:
      return is_finite(bytes, std::uint16_t{0x7c00});
    case DType::kBF16:
      return is_finite(bytes, std::uint16_t{0x7f80});
    case DType::kF32:
      return is_finite(bytes, std::uint32_t{0x7f800000});
    case DType::kF64:
      return is_finite(bytes, std::uint64_t{0x7ff0000000000000});
    default:
      return true;
  }
}

}  // namespace qvlm
