// Kernels for AVX-512 with VNNI: one vpdpbusd multiplies a quad of 16 columns, 64 products.
//
// A tile is a panel of 64 columns (4 registers) times up to 6 rows: 24 accumulators, 4 registers of
// weights and one broadcast of activations. Both codes per byte of 4-bit weights are unsigned, so
// unpacking a step costs two masks and a shift per 16 columns, whatever the number of rows.
#include <immintrin.h>

#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

constexpr int kVectors = 4;  // of 16 columns, in a panel
constexpr int kMaxRows = 6;

// accumulator += weights (unsigned) * activations (signed). Inline assembly, since gcc 12 spills
// the accumulators of a tile written with the intrinsic: 2.6 times slower.
[[gnu::always_inline]] inline void dot(__m512i& accumulator, __m512i weights, __m512i activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(accumulator) : "v"(weights), "v"(activations));
}

// Four codes of one row, in every lane. This and what follows is inlined by force, for a call would
// pass the accumulators through memory.
[[gnu::always_inline]] inline __m512i broadcast_quad(const std::int8_t* codes) {
  std::int32_t word;
  __builtin_memcpy(&word, codes, sizeof word);
  return _mm512_set1_epi32(word);
}

// The unsigned codes of quad kQuad of a step, 16 columns.
template <int kBits, int kQuad>
[[gnu::always_inline]] inline __m512i load_weights(const std::uint8_t* step, int vector) {
  if constexpr (kBits == 8) {
    return _mm512_loadu_si512(step + kQuad * kQuadBytes + vector * 64);
  }
  const __m512i both = _mm512_loadu_si512(step + vector * 64);
  const __m512i mask = _mm512_set1_epi8(0x0f);
  return _mm512_and_si512(kQuad == 0 ? both : _mm512_srli_epi32(both, 4), mask);
}

template <int kBits, int kRows, int kQuad>
[[gnu::always_inline]] inline void add_quad(const std::uint8_t* weights,
                                            const std::int8_t* activations,
                                            std::int64_t stride,
                                            __m512i (&sums)[kRows][kVectors]) {
  __m512i columns[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    columns[v] = load_weights<kBits, kQuad>(weights, v);
  }
#pragma GCC unroll 6
  for (int row = 0; row < kRows; ++row) {
    const __m512i codes = broadcast_quad(activations + row * stride + 4 * kQuad);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      dot(sums[row][v], columns[v], codes);
    }
  }
}

// Adds the steps of one group to sums. With few rows the second quads have their own sums: one
// chain of dependent vpdpbusd per register would wait for its latency.
template <int kBits, int kRows>
[[gnu::always_inline]] inline void add_group(const std::uint8_t* weights,
                                             const std::int8_t* activations,
                                             std::int64_t stride,
                                             std::int64_t steps,
                                             __m512i (&sums)[kRows][kVectors]) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  if constexpr (kRows > 2) {
    for (; steps > 0; --steps, weights += kStepBytes, activations += kStep) {
      add_quad<kBits, kRows, 0>(weights, activations, stride, sums);
      add_quad<kBits, kRows, 1>(weights, activations, stride, sums);
    }
  } else {
    __m512i second[kRows][kVectors] = {};
    for (; steps > 0; --steps, weights += kStepBytes, activations += kStep) {
      add_quad<kBits, kRows, 0>(weights, activations, stride, sums);
      add_quad<kBits, kRows, 1>(weights, activations, stride, second);
    }
#pragma GCC unroll 2
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[row][v] = _mm512_add_epi32(sums[row][v], second[row][v]);
      }
    }
  }
}

// Which of the 16 columns from `column` on are in [begin, end).
[[gnu::always_inline]] inline __mmask16 columns_in_range(std::int64_t column,
                                                         std::int64_t begin,
                                                         std::int64_t end) {
  const std::int64_t first = begin > column ? begin - column : 0;
  const std::int64_t last = end - column < 16 ? end - column : 16;
  if (first >= last) return 0;
  return static_cast<__mmask16>((1u << last) - (1u << first));
}

// out = totals * activation scale (+ bias), for one row of a tile.
[[gnu::always_inline]] inline void store_row(const MatmulArguments& a,
                                             std::int64_t row,
                                             std::int64_t panel,
                                             const float* totals) {
  const __m512 scale = _mm512_set1_ps(a.activation_scales[row]);
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t column = panel * kPanel + v * 16;
    const __mmask16 mask = columns_in_range(column, a.begin, a.end);
    if (mask == 0) continue;
    __m512 result = _mm512_mul_ps(_mm512_load_ps(totals + v * 16), scale);
    if (a.bias != nullptr) {
      result = _mm512_add_ps(result, _mm512_maskz_loadu_ps(mask, a.bias + column));
    }
    _mm512_mask_storeu_ps(a.out + row * a.stride + column, mask, result);
  }
}

template <int kBits, int kRows>
void multiply_tile(const MatmulArguments& a, std::int64_t panel, std::int64_t row) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const std::int64_t stride = a.steps * kStep;
  const std::uint8_t* weights = a.codes + panel * a.steps * kStepBytes;
  const std::int8_t* activations = a.activations + row * stride;
  const float* scales = a.scales + panel * a.groups * kPanel;
  alignas(64) float totals[kRows][kPanel] = {};
  for (std::int64_t group = 0; group < a.groups; ++group) {
    const std::int64_t first = group * a.group_steps;
    const std::int64_t left = a.steps - first;
    __m512i sums[kRows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t offset = a.activation_sums[(row + r) * a.groups + group];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = _mm512_set1_epi32(-(1 << (kBits - 1)) * offset);
      }
    }
    add_group<kBits, kRows>(weights + first * kStepBytes, activations + first * kStep, stride,
                            left < a.group_steps ? left : a.group_steps, sums);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512 scale = _mm512_loadu_ps(scales + group * kPanel + v * 16);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const __m512 part = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][v]), scale);
        float* total = totals[r] + v * 16;
        _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), part));
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    store_row(a, row + r, panel, totals[r]);
  }
}

template <int kBits>
void matmul(const MatmulArguments& a) {
  using Tile = void (*)(const MatmulArguments&, std::int64_t, std::int64_t);
  constexpr Tile kTiles[kMaxRows + 1] = {nullptr,
                                         multiply_tile<kBits, 1>,
                                         multiply_tile<kBits, 2>,
                                         multiply_tile<kBits, 3>,
                                         multiply_tile<kBits, 4>,
                                         multiply_tile<kBits, 5>,
                                         multiply_tile<kBits, 6>};
  // Tiles of nearly equal height: 20 rows are 4 times 5, not 6 + 6 + 6 + 2.
  const std::int64_t tiles = (a.rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t panel = a.begin / kPanel; panel * kPanel < a.end; ++panel) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t row = a.rows * tile / tiles;
      kTiles[a.rows * (tile + 1) / tiles - row](a, panel, row);
    }
  }
}

void group_sums(const std::int8_t* codes,
                std::int64_t rows,
                std::int64_t steps,
                std::int64_t group_steps,
                std::int32_t* sums) {
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t row = 0; row < rows; ++row, codes += steps * kStep) {
    for (std::int64_t step = 0; step < steps; step += group_steps) {
      const std::int64_t last = step + group_steps < steps ? step + group_steps : steps;
      __m512i sum = _mm512_setzero_si512();
      for (std::int64_t k = step * kStep; k < last * kStep; k += 64) {
        const std::int64_t left = last * kStep - k;
        const __mmask64 mask = left < 64 ? (__mmask64{1} << left) - 1 : ~__mmask64{0};
        dot(sum, ones, _mm512_maskz_loadu_epi8(mask, codes + k));
      }
      *sums++ = _mm512_reduce_add_epi32(sum);
    }
  }
}

[[gnu::always_inline]] inline __mmask16 first_lanes(std::int64_t count) {
  return count < 16 ? static_cast<__mmask16>((1u << count) - 1) : __mmask16{0xffff};
}

// The steps are explained in scalar.cc.
void quantize_row(const float* values,
                  std::int64_t in,
                  float clip_ratio,
                  float half_range,
                  float low,
                  float high,
                  std::int8_t* codes,
                  float* scale) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (std::int64_t k = 0; k < in; k += 16) {
    const __m512i bits = _mm512_maskz_loadu_epi32(first_lanes(in - k), values + k);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, magnitude));
  }
  const std::int32_t absmax = _mm512_reduce_max_epi32(largest);
  const bool finite = absmax < 0x7f800000;
  float step = clip_ratio * __builtin_bit_cast(float, absmax) / half_range;
  if (step == 0.0f) step = 1.0f;
  *scale = finite ? step : __builtin_nanf("");
  for (std::int64_t k = 0; k < in; k += 16) {
    const __mmask16 mask = first_lanes(in - k);
    __m512 value = _mm512_maskz_loadu_ps(mask, values + k);
    value = _mm512_div_ps(value, _mm512_set1_ps(step));
    value = _mm512_max_ps(value, _mm512_set1_ps(low));
    value = _mm512_min_ps(value, _mm512_set1_ps(high));
    const __m512i whole = finite ? _mm512_cvtps_epi32(value) : _mm512_setzero_si512();
    _mm512_mask_cvtepi32_storeu_epi8(codes + k, mask, whole);
  }
}

}  // namespace

const KernelTable kAvx512VnniTable = {"avx512vnni", quantize_row, group_sums, matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
