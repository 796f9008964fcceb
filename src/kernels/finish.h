// The way out of a product: bias, function, second operand, and the store as float32 or bfloat16.
// Written once over vectors of the compiler, of kLanes floats, and compiled by each level's files
// for that level. Everything is in an unnamed namespace, so no copy is shared between levels. All
// steps are single float operations (no fused multiply-add: -ffp-contract=off), so every level
// returns the same bits.
#pragma once

#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * kLanes)));

[[gnu::always_inline]] inline Floats load_floats(const float* from) {
  Floats values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}

// The first `count` floats, 0 behind them.
[[gnu::always_inline]] inline Floats load_some(const float* from, std::int64_t count) {
  if (count >= kLanes) return load_floats(from);
  Floats values = {};
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = from[i];
  }
  return values;
}

[[gnu::always_inline]] inline void store_floats(float* to, Floats values) {
  __builtin_memcpy(to, &values, sizeof values);
}

[[gnu::always_inline]] inline Floats all(float value) {
  return value - Floats{};  // not +, which would turn -0 into 0
}

[[gnu::always_inline]] inline Floats magnitude(Floats x) {
  return (Floats)((Ints)x & 0x7fffffff);
}

// e^x with an error of 2 units in the last place: x = n ln 2 + r, and a Taylor polynomial of r.
// Below -87 it is 0 (to float32's smallest normal number), above 88 infinity; NaN stays.
[[gnu::always_inline]] inline Floats exponential(Floats x) {
  const Floats clamped = x < -87.0f ? all(-87.0f) : (x > 88.0f ? all(88.0f) : x);
  // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
  const Floats shifted = clamped * 1.44269504f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  // ln 2 in two parts: the first has few enough bits that n times it is exact.
  const Floats r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats sum = all(1.0f / 5040.0f);
  sum = sum * r + 1.0f / 720.0f;
  sum = sum * r + 1.0f / 120.0f;
  sum = sum * r + 1.0f / 24.0f;
  sum = sum * r + 1.0f / 6.0f;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const Floats power = (Floats)((Ints)sum + ((Ints)shifted << 23));  // times 2^n
  const Floats low = x < -87.0f ? all(0.0f) : power;
  return x > 88.0f ? all(__builtin_inff()) : (x == x ? low : x);
}

[[gnu::always_inline]] inline Floats sigmoid(Floats x) {
  return 1.0f / (1.0f + exponential(-x));
}

// 1 - 2 / (e^2x + 1).
[[gnu::always_inline]] inline Floats tangent(Floats x) {
  return 1.0f - 2.0f / (exponential(x + x) + 1.0f);
}

// Phi(x), the normal distribution function: Abramowitz and Stegun 7.1.26 for erf(|x| / sqrt 2),
// |error| < 1.5e-7.
[[gnu::always_inline]] inline Floats normal_distribution(Floats x) {
  const Floats z = magnitude(x) * 0.70710678f;
  const Floats t = 1.0f / (1.0f + z * 0.3275911f);
  Floats sum = all(1.061405429f);
  sum = sum * t - 1.453152027f;
  sum = sum * t + 1.421413741f;
  sum = sum * t - 0.284496736f;
  sum = sum * t + 0.254829592f;
  const Floats tail = 0.5f * (sum * t) * exponential(-(z * z));  // 1 - Phi(|x|)
  return x < 0.0f ? tail : 1.0f - tail;
}

enum { kNoFunction, kSiluFunction, kGeluFunction, kGeluTanhFunction, kQuickGeluFunction };
enum { kNoCombine, kAddCombine, kMultiplyCombine };

[[gnu::always_inline]] inline Floats apply(int function, Floats x) {
  switch (function) {
    case kSiluFunction:
      return x * sigmoid(x);
    case kGeluFunction:
      return x * normal_distribution(x);
    case kGeluTanhFunction:
      return x * 0.5f * (1.0f + tangent(0.79788456f * (x + 0.044715f * (x * x * x))));
    case kQuickGeluFunction:
      return x * sigmoid(1.702f * x);
    default:
      return x;
  }
}

// Rounds to bfloat16, half to even; a NaN keeps its sign and becomes quiet.
[[gnu::always_inline]] inline Halves round_to_bf16(Floats x) {
  const Ints bits = (Ints)x;
  const Ints rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const Ints chosen = x == x ? rounded : (bits | 0x400000);
  return __builtin_convertvector(chosen >> 16, Halves);
}

[[gnu::always_inline]] inline Floats finish_lanes(const FinishArguments& f,
                                                  Floats x,
                                                  const float* bias,
                                                  const float* operand) {
  if (bias != nullptr) x = x + load_floats(bias);
  x = apply(f.function, x);
  if (f.combine == kAddCombine) x = x + load_floats(operand);
  if (f.combine == kMultiplyCombine) x = x * load_floats(operand);
  return x;
}

[[gnu::always_inline]] inline void store_lanes(const FinishArguments& f,
                                               std::int64_t at,
                                               Floats x) {
  if (f.values != nullptr) {
    store_floats(f.values + at, x);
  } else {
    const Halves halves = round_to_bf16(x);
    __builtin_memcpy(f.bf16 + at, &halves, sizeof halves);
  }
}

// The columns in [f.begin, f.end) of `width` columns from `start`, by way of buffers, as whole
// vectors would reach beyond the range.
[[gnu::noinline, maybe_unused]] void finish_part(const FinishArguments& f,
                                                 std::int64_t row,
                                                 std::int64_t start,
                                                 std::int64_t width,
                                                 const float* sums) {
  const std::int64_t first = f.begin > start ? f.begin - start : 0;
  const std::int64_t last = f.end - start < width ? f.end - start : width;
  float bias[kPanel] = {}, operand[kPanel] = {}, result[kPanel];
  for (std::int64_t c = first; c < last; ++c) {
    if (f.bias != nullptr) bias[c] = f.bias[start + c];
    if (f.operand != nullptr) operand[c] = f.operand[row * f.operand_stride + start + c];
  }
  for (std::int64_t c = 0; c < width; c += kLanes) {
    const Floats x =
        finish_lanes(f, load_floats(sums + c), f.bias == nullptr ? nullptr : bias + c, operand + c);
    store_floats(result + c, x);
  }
  for (std::int64_t c = first; c < last; ++c) {
    const std::int64_t at = row * f.stride + start + c;
    if (f.values != nullptr) {
      f.values[at] = result[c];
    } else {
      f.bf16[at] = round_to_bf16(all(result[c]))[0];
    }
  }
}

// Writes `width` columns from `start` of one row, a whole or half panel. sums: [width], the
// products, of which those in [f.begin, f.end) are written.
[[maybe_unused]] inline void finish_columns(const FinishArguments& f,
                                            std::int64_t row,
                                            std::int64_t start,
                                            std::int64_t width,
                                            const float* sums) {
  if (start < f.begin || start + width > f.end) {
    finish_part(f, row, start, width, sums);
    return;
  }
  for (std::int64_t c = 0; c < width; c += kLanes) {
    const float* bias = f.bias == nullptr ? nullptr : f.bias + start + c;
    const float* operand =
        f.operand == nullptr ? nullptr : f.operand + row * f.operand_stride + start + c;
    store_lanes(f, row * f.stride + start + c,
                finish_lanes(f, load_floats(sums + c), bias, operand));
  }
}

// The same for a whole panel.
[[maybe_unused]] inline void finish_row(const FinishArguments& f,
                                        std::int64_t row,
                                        std::int64_t panel,
                                        const float* sums) {
  finish_columns(f, row, panel * kPanel, kPanel, sums);
}

}  // namespace
}  // namespace qvlm::kernels
