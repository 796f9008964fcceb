// Products of float32 rows with a float weight that stays in the 16 bits a word it has in its file:
// half the memory, and when there are few rows half the time, of a float32 copy, with the same
// result. For the linears that a recipe leaves in float, above all the head.
#pragma once

#include <cstdint>

namespace qvlm::kernels {

enum class HalfType { kBfloat16, kFloat16 };

// out[m, n] = sum over k of values[m, k] * weights[n, k] (+ bias[n]) for n in [begin, end). Sums
// are float32, each of an order that depends on `in` alone.
struct HalfMatmul {
  const std::uint16_t* weights;  // [out, in]
  HalfType type;
  std::int64_t in;
  const float* values;  // [rows, in]
  std::int64_t rows;
  const float* bias;  // [out] or null
  float* out;         // [rows, stride]
  std::int64_t stride;
};
void matmul(const HalfMatmul& product, std::int64_t begin, std::int64_t end);

// The same at a level: what half_rows.cc of each level has.
using HalfKernel = void (*)(const HalfMatmul& product, std::int64_t begin, std::int64_t end);
extern const HalfKernel kScalarHalf;
#if defined(__x86_64__)
extern const HalfKernel kAvx2Half, kAvx512VnniHalf;
#endif

}  // namespace qvlm::kernels
