// Activations of one token on the way in: to integer codes or to bfloat16, with the sums per group
// that products need. Written once over vectors of the compiler and compiled by each level's
// rows.cc, like finish.h; every level returns the same bits.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/finish.h"
#include "kernels/hadamard_lanes.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

typedef std::int8_t Bytes __attribute__((vector_size(kLanes)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef std::int32_t Ints8 __attribute__((vector_size(32)));
typedef std::uint16_t Halves8 __attribute__((vector_size(16)));

[[gnu::always_inline]] inline bool any(Ints lanes) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)lanes, (__m512i)lanes) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)lanes) != 0;
#else
  return (lanes[0] | lanes[1] | lanes[2] | lanes[3]) != 0;
#endif
}

// Largest magnitude, as the bits of a float: these compare as integers, and NaN and infinity are
// above all others.
[[gnu::always_inline]] inline std::int32_t largest_magnitude(const float* values, std::int64_t in) {
  Ints largest = {};
  for (std::int64_t k = 0; k < in; k += kLanes) {
    const Ints bits = (Ints)magnitude(load_some(values + k, in - k));
    largest = bits > largest ? bits : largest;
  }
  return largest_lane(largest);
}

inline constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds half to even

[[gnu::always_inline]] inline Floats clamp(Floats x, float low, float high) {
  x = x < low ? all(low) : x;
  return x > high ? all(high) : x;
}

// Codes are value / step, a division. It takes longer than all the rest together, so the quotient
// is first taken as value * (1 / step), which is within 3 * 2^-24 * 128 < 2.4e-5 of the division's;
// where no lane is that near to a tie both round to the same code, and clamping first changes
// nothing, as the limits are whole.
[[gnu::always_inline]] inline void write_codes(const RowArguments& row,
                                               const CodeRange& range,
                                               float step,
                                               std::int8_t* codes) {
  const float inverse = 1.0f / step;
  const bool exact_inverse = step > 1e-30f && step < 1e30f;
  for (std::int64_t k = 0; k < row.in; k += kLanes) {
    const Floats values = load_some(row.values + k, row.in - k);
    Floats quotient = clamp(values * inverse, range.low, range.high);
    const Floats distance = magnitude(quotient - ((quotient + kMagic) - kMagic));
    if (!exact_inverse || any(distance > 0.4999f)) [[unlikely]] {
      quotient = clamp(values / step, range.low, range.high);
    }
    const Ints whole = (Ints)(quotient + kMagic) - __builtin_bit_cast(std::int32_t, kMagic);
    const Bytes bytes = __builtin_convertvector(whole, Bytes);
    __builtin_memcpy(codes + k, &bytes, sizeof bytes);  // rows are padded to 64
  }
}

// The sum of `count` codes, a multiple of 8.
[[gnu::always_inline]] inline std::int32_t sum_codes(const std::int8_t* codes, std::int64_t count) {
  std::int32_t sum = 0;
  std::int64_t k = 0;
#if defined(__AVX512VNNI__)
  __m512i sums = _mm512_setzero_si512();
  for (; k < count; k += 64) {
    const std::int64_t left = count - k;
    const __mmask64 mask = left < 64 ? (__mmask64{1} << left) - 1 : ~__mmask64{0};
    sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(mask, codes + k));
  }
  sum = _mm512_reduce_add_epi32(sums);
#elif defined(__AVX2__)
  __m256i sums = _mm256_setzero_si256();
  for (; k + 32 <= count; k += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + k));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  for (int lane = 0; lane < 8; ++lane) {
    sum += ((Ints8)sums)[lane];
  }
#endif
  for (; k < count; ++k) {
    sum += codes[k];
  }
  return sum;
}

// What becomes of a row: it, or its transform.
[[gnu::always_inline]] inline RowArguments transformed(const RowArguments& row) {
  RowArguments result = row;
  if (row.transform != nullptr) result.values = row.transform->result;
  return result;
}

[[gnu::always_inline]] inline void quantize_one(const RowArguments& given,
                                                const CodeRange& range,
                                                std::int8_t* codes,
                                                float* scale,
                                                std::int32_t* sums) {
  const std::int32_t largest =
      given.transform != nullptr ? transform_one(given) : largest_magnitude(given.values, given.in);
  const RowArguments row = transformed(given);
  __builtin_memset(codes + row.in / 64 * 64, 0,
                   static_cast<std::size_t>(row.stride - row.in / 64 * 64));
  if (largest >= 0x7f800000) {
    *scale = __builtin_nanf("");
    __builtin_memset(codes, 0, static_cast<std::size_t>(row.stride));
  } else {
    float step = range.static_scale;
    if (step == 0.0f) {
      step = range.clip_ratio * __builtin_bit_cast(float, largest) / range.half_range;
      if (step == 0.0f) step = 1.0f;
    }
    *scale = step;
    write_codes(row, range, step, codes);
  }
  const std::int64_t whole = (row.in + kStep - 1) / kStep * kStep;
  for (std::int64_t k = 0; k < whole; k += row.group_size) {
    *sums++ = sum_codes(codes + k, whole - k < row.group_size ? whole - k : row.group_size);
  }
}

[[gnu::always_inline]] inline Floats8 load_step(const float* from, std::int64_t count) {
  Floats8 values = {};
  if (count >= kStep) {
    __builtin_memcpy(&values, from, sizeof values);
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      values[i] = from[i];
    }
  }
  return values;
}

// Sums are of 8 lanes, added up at the end of a group: one order of float steps at every level.
[[gnu::always_inline]] inline void round_one(const RowArguments& given,
                                             std::uint16_t* values,
                                             float* sums) {
  if (given.transform != nullptr) transform_one(given);
  const RowArguments row = transformed(given);
  const std::int64_t whole = (row.in + kStep - 1) / kStep * kStep;
  for (std::int64_t begin = 0; begin < whole; begin += row.group_size) {
    const std::int64_t end = begin + row.group_size < whole ? begin + row.group_size : whole;
    Floats8 total = {};
    for (std::int64_t k = begin; k < end; k += kStep) {
      const Floats8 x = load_step(row.values + k, row.in - k);
      const Ints8 bits = (Ints8)x;
      const Ints8 rounded = bits + 0x7fff + ((bits >> 16) & 1);
      const Ints8 high = (x == x ? rounded : (bits | 0x400000)) >> 16;
      total = total + (Floats8)(high << 16);
      const Halves8 halves = __builtin_convertvector(high, Halves8);
      const Halves8 ordered = __builtin_shufflevector(halves, halves, 0, 2, 4, 6, 1, 3, 5, 7);
      __builtin_memcpy(values + k, &ordered, sizeof ordered);
    }
    *sums++ = ((total[0] + total[1]) + (total[2] + total[3])) +
              ((total[4] + total[5]) + (total[6] + total[7]));
  }
  __builtin_memset(values + whole, 0, static_cast<std::size_t>(row.stride - whole) * 2);
}

}  // namespace
}  // namespace qvlm::kernels
