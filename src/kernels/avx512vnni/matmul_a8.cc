// Kernels for AVX-512 with VNNI: one vpdpbusd multiplies a quad of 16 columns, 64 products.
//
// A tile is a panel of 64 columns (4 registers) times up to 6 rows: 24 accumulators, 4 registers of
// weights and one broadcast of activations. Both codes per byte of 4-bit weights are unsigned, so
// unpacking a step costs two masks and a shift per 16 columns, whatever the number of rows.
#include <immintrin.h>

#include "kernels/finish.h"
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

template <int kBits, int kRows>
void multiply_tile(const IntegerArguments& a, std::int64_t panel, std::int64_t row) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const WeightArguments& w = a.weights;
  const std::int64_t stride = a.activation_stride;
  const std::uint8_t* weights = w.codes + panel * w.steps * kStepBytes;
  const std::int8_t* activations = a.activations + row * stride;
  const float* scales = w.scales + panel * w.groups * kPanel;
  alignas(64) float totals[kRows][kPanel] = {};
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t first = group * w.group_steps;
    const std::int64_t left = w.steps - first;
    __m512i sums[kRows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t offset = a.activation_sums[(row + r) * w.groups + group];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        __m512i zero = _mm512_set1_epi32(1 << (kBits - 1));
        if (w.zero_points != nullptr) {
          const std::int8_t* points = w.zero_points + (panel * w.groups + group) * kPanel + 16 * v;
          zero = _mm512_add_epi32(
              zero, _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(points))));
        }
        sums[r][v] = _mm512_mullo_epi32(zero, _mm512_set1_epi32(-offset));
      }
    }
    add_group<kBits, kRows>(weights + first * kStepBytes, activations + first * kStep, stride,
                            left < w.group_steps ? left : w.group_steps, sums);
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
    for (int c = 0; c < kPanel; ++c) {
      totals[r][c] *= a.activation_scales[row + r];
    }
    finish_row(a.finish, row + r, panel, totals[r]);
  }
}

template <int kBits>
void matmul(const IntegerArguments& a) {
  using Tile = void (*)(const IntegerArguments&, std::int64_t, std::int64_t);
  constexpr Tile kTiles[kMaxRows + 1] = {nullptr,
                                         multiply_tile<kBits, 1>,
                                         multiply_tile<kBits, 2>,
                                         multiply_tile<kBits, 3>,
                                         multiply_tile<kBits, 4>,
                                         multiply_tile<kBits, 5>,
                                         multiply_tile<kBits, 6>};
  // Tiles of nearly equal height: 20 rows are 4 times 5, not 6 + 6 + 6 + 2.
  const std::int64_t tiles = (a.rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t panel = a.finish.begin / kPanel; panel * kPanel < a.finish.end; ++panel) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t row = a.rows * tile / tiles;
      kTiles[a.rows * (tile + 1) / tiles - row](a, panel, row);
    }
  }
}

}  // namespace

const IntegerKernels kAvx512VnniInteger = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
