#include "io/scale_values.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace qvlm {
namespace {

float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

std::uint16_t to_bf16(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

// IEEE binary16: 1 sign, 5 exponent and 10 fraction bits.
float from_f16(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  if (exponent == 31) value = fraction == 0 ? INFINITY : NAN;
  return (bits & 0x8000) != 0 ? -value : value;
}

// Correct for values that binary16 holds exactly; the caller finds the others by converting back.
std::uint16_t to_f16(float value) {
  int exponent = 0;
  const float fraction = std::frexp(
      std::fabs(value), &exponent);  // |value| = fraction * 2^exponent, fraction in [0.5, 1)
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (value == 0 || exponent < -24 || exponent > 16) return sign;
  if (exponent < -13)
    return static_cast<std::uint16_t>(sign | static_cast<int>(std::ldexp(fraction, exponent + 24)));
  const int digits = static_cast<int>(std::ldexp(fraction, 11)) - 1024;
  return static_cast<std::uint16_t>(sign | ((exponent + 14) << 10) | digits);
}

}  // namespace

std::vector<float> decode_scales(const TensorView& tensor) {
  std::vector<float> scales(static_cast<std::size_t>(tensor.elements()));
  if (tensor.dtype == DType::kF32) {
    std::memcpy(scales.data(), tensor.bytes.data(), tensor.bytes.size());
    return scales;
  }
  require(tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF16, ErrorKind::kUnsupported,
          tensor.describe(), ": scales of this dtype are not supported; supported: BF16, F16, F32");
  for (std::size_t i = 0; i < scales.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, tensor.bytes.data() + i * sizeof(bits), sizeof(bits));
    scales[i] = tensor.dtype == DType::kBF16 ? from_bf16(bits) : from_f16(bits);
  }
  return scales;
}

std::vector<std::byte> encode_scales(std::span<const float> scales, DType dtype) {
  if (dtype == DType::kF32) {
    const auto bytes = std::as_bytes(scales);
    return {bytes.begin(), bytes.end()};
  }
  require(dtype == DType::kBF16 || dtype == DType::kF16, ErrorKind::kUnsupported,
          "weights of dtype ", dtype_name(dtype),
          " cannot be quantized; supported: BF16, F16, F32");
  const bool brain = dtype == DType::kBF16;
  std::vector<std::byte> bytes(scales.size() * sizeof(std::uint16_t));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const std::uint16_t bits = brain ? to_bf16(scales[i]) : to_f16(scales[i]);
    require((brain ? from_bf16(bits) : from_f16(bits)) == scales[i], ErrorKind::kInternal, "scale ",
            scales[i], " is not a ", dtype_name(dtype), " number: round it before quantizing");
    std::memcpy(bytes.data() + i * sizeof(bits), &bits, sizeof(bits));
  }
  return bytes;
}

}  // namespace qvlm
