// The product of half_matmul.h over vectors of the compiler, compiled by each level's half_rows.cc.
#pragma once

#include "kernels/finish.h"
#include "kernels/half_matmul.h"

namespace qvlm::kernels {
namespace {

constexpr int kChains = 4;  // sums at a time: one would wait for its own addition

// A float16 is a float32 with a smaller exponent: shifted into place it is too small by 2^112,
// denormal numbers included.
template <HalfType kType>
[[gnu::always_inline]] inline Floats widen(const std::uint16_t* from) {
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  const Ints bits = __builtin_convertvector(halves, Ints);
  if constexpr (kType == HalfType::kBfloat16) return (Floats)(bits << 16);
  const Ints sign = (bits & 0x8000) << 16;
  const Floats value = (Floats)((bits & 0x7fff) << 13) * 0x1p112f;
  return (Floats)((Ints)value | sign);
}

template <HalfType kType>
[[gnu::always_inline]] inline float dot(const std::uint16_t* weights,
                                        const float* values,
                                        std::int64_t in) {
  Floats sums[kChains] = {};
  std::int64_t k = 0;
  for (; k + kChains * kLanes <= in; k += kChains * kLanes) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) {
      const std::int64_t at = k + chain * kLanes;
      sums[chain] = sums[chain] + widen<kType>(weights + at) * load_floats(values + at);
    }
  }
  if (k < in) {
    std::uint16_t last_weights[kChains * kLanes] = {};
    float last_values[kChains * kLanes] = {};
    __builtin_memcpy(last_weights, weights + k, static_cast<std::size_t>(in - k) * 2);
    __builtin_memcpy(last_values, values + k, static_cast<std::size_t>(in - k) * 4);
    for (int chain = 0; chain < kChains; ++chain) {
      const std::int64_t at = chain * kLanes;
      sums[chain] = sums[chain] + widen<kType>(last_weights + at) * load_floats(last_values + at);
    }
  }
  const Floats total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) {
    sum += total[lane];
  }
  return sum;
}

template <HalfType kType>
void multiply(const HalfMatmul& p, std::int64_t begin, std::int64_t end) {
  for (std::int64_t n = begin; n < end; ++n) {
    for (std::int64_t m = 0; m < p.rows; ++m) {
      const float sum = dot<kType>(p.weights + n * p.in, p.values + m * p.in, p.in);
      p.out[m * p.stride + n] = p.bias == nullptr ? sum : sum + p.bias[n];
    }
  }
}

void multiply_halves(const HalfMatmul& product, std::int64_t begin, std::int64_t end) {
  if (product.type == HalfType::kBfloat16) {
    multiply<HalfType::kBfloat16>(product, begin, end);
  } else {
    multiply<HalfType::kFloat16>(product, begin, end);
  }
}

}  // namespace
}  // namespace qvlm::kernels
