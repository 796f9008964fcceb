// Kernels for AVX2, which has no byte product that sums into 32 bits. A tile is up to 4 rows times
// 16 columns (2 registers): 8 accumulators.
//
// 4-bit weights: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits,
// saturating. A pair is at most 2 * 15 * 128 = 3840, and 8 of them, 30720, still fit: so 4 steps
// are summed in 16 bits before they are widened. 8-bit weights would saturate (2 * 255 * 128), so
// they are multiplied in 16 bits: in a lane with the bytes w0 w1 w2 w3, a mask leaves (w0, w2) and
// a shift (w1, w3), for vpmaddwd with (a0, a2), (a1, a3).
#include <immintrin.h>

#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

constexpr int kMaxRows = 4;
constexpr int kVectors = 2;  // of 8 columns, in a tile
constexpr int kTileColumns = 8 * kVectors;
// Steps whose activations are widened at a time; their 4 KiB of weights are passed 4 times.
constexpr std::int64_t kChunk = 8;
constexpr std::int64_t kNarrowSteps = 4;  // steps summed in 16 bits

inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

inline void store(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}

inline __m256i broadcast_word(const void* from) {
  std::int32_t word;
  __builtin_memcpy(&word, from, sizeof word);
  return _mm256_set1_epi32(word);
}

// The integer sums of a panel, [rows, 64]. They live in memory between chunks of steps.
struct Sums {
  alignas(32) std::int32_t values[kMaxRows][kPanel];
};

// Activations of a chunk in 16 bits: each quad a0 a1 a2 a3 as a0, a2, a1, a3.
struct WideActivations {
  alignas(32) std::int16_t codes[kMaxRows][kChunk * kStep];
};

void widen(const std::int8_t* codes, std::int64_t steps, std::int16_t* wide) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1);
  for (std::int64_t step = 0; step < steps; ++step) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + step * kStep));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(wide + step * kStep),
                     _mm_cvtepi8_epi16(_mm_shuffle_epi8(bytes, order)));
  }
}

// Adds a chunk of steps to 16 columns of sums. weights: at these columns of the first step.
template <int kRows>
void add_columns_w8(const std::uint8_t* weights,
                    const WideActivations& activations,
                    std::int64_t steps,
                    std::int64_t column,
                    Sums& sums) {
  const __m256i mask = _mm256_set1_epi16(0x00ff);
  __m256i total[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = load(sums.values[r] + column + 8 * v);
    }
  }
  for (std::int64_t quad = 0; quad < 2 * steps; ++quad, weights += kQuadBytes) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __m256i bytes = load(weights + 32 * v);
      const __m256i even = _mm256_and_si256(bytes, mask);
      const __m256i odd = _mm256_srli_epi16(bytes, 8);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const std::int16_t* codes = activations.codes[r] + 4 * quad;
        const __m256i first = _mm256_madd_epi16(even, broadcast_word(codes));
        const __m256i second = _mm256_madd_epi16(odd, broadcast_word(codes + 2));
        total[r][v] = _mm256_add_epi32(total[r][v], _mm256_add_epi32(first, second));
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      store(sums.values[r] + column + 8 * v, total[r][v]);
    }
  }
}

// Adds at most kNarrowSteps steps to 16 columns of sums.
template <int kRows>
inline void add_columns_w4(const std::uint8_t* weights,
                           const std::int8_t* activations,
                           std::int64_t stride,
                           std::int64_t steps,
                           std::int64_t column,
                           Sums& sums) {
  const __m256i mask = _mm256_set1_epi8(0x0f);
  __m256i narrow[kRows][kVectors] = {};
  for (; steps > 0; --steps, weights += kStepBytes4, activations += kStep) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __m256i both = load(weights + 32 * v);
      const __m256i low = _mm256_and_si256(both, mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const std::int8_t* codes = activations + r * stride;
        const __m256i first = _mm256_maddubs_epi16(low, broadcast_word(codes));
        const __m256i second = _mm256_maddubs_epi16(high, broadcast_word(codes + 4));
        narrow[r][v] = _mm256_add_epi16(narrow[r][v], _mm256_add_epi16(first, second));
      }
    }
  }
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      std::int32_t* total = sums.values[r] + column + 8 * v;
      store(total, _mm256_add_epi32(load(total), _mm256_madd_epi16(narrow[r][v], ones)));
    }
  }
}

// Adds the steps of one group to the sums of a panel.
template <int kBits, int kRows>
void add_group(const std::uint8_t* weights,
               const std::int8_t* activations,
               std::int64_t stride,
               std::int64_t steps,
               Sums& sums) {
  if constexpr (kBits == 8) {
    WideActivations wide;
    for (std::int64_t step = 0; step < steps; step += kChunk) {
      const std::int64_t count = steps - step < kChunk ? steps - step : kChunk;
      for (int r = 0; r < kRows; ++r) {
        widen(activations + r * stride + step * kStep, count, wide.codes[r]);
      }
      for (std::int64_t column = 0; column < kPanel; column += kTileColumns) {
        add_columns_w8<kRows>(weights + step * kStepBytes8 + 4 * column, wide, count, column, sums);
      }
    }
  } else {
    for (std::int64_t step = 0; step < steps; step += kNarrowSteps) {
      const std::int64_t count = steps - step < kNarrowSteps ? steps - step : kNarrowSteps;
      for (std::int64_t column = 0; column < kPanel; column += kTileColumns) {
        add_columns_w4<kRows>(weights + step * kStepBytes4 + 4 * column, activations + step * kStep,
                              stride, count, column, sums);
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
  alignas(32) float totals[kRows][kPanel] = {};
  Sums sums;
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t first = group * w.group_steps;
    const std::int64_t left = w.steps - first;
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t offset = a.activation_sums[(row + r) * w.groups + group];
      for (std::int64_t column = 0; column < kPanel; column += 8) {
        __m256i zero = _mm256_set1_epi32(1 << (kBits - 1));
        if (w.zero_points != nullptr) {
          const std::int8_t* points =
              w.zero_points + (panel * w.groups + group) * kPanel + column;
          zero = _mm256_add_epi32(
              zero, _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(points))));
        }
        store(sums.values[r] + column, _mm256_mullo_epi32(zero, _mm256_set1_epi32(-offset)));
      }
    }
    add_group<kBits, kRows>(weights + first * kStepBytes, activations + first * kStep, stride,
                            left < w.group_steps ? left : w.group_steps, sums);
    for (int r = 0; r < kRows; ++r) {
      for (std::int64_t column = 0; column < kPanel; column += 8) {
        const __m256 scale = _mm256_loadu_ps(scales + group * kPanel + column);
        const __m256 sum = _mm256_cvtepi32_ps(load(sums.values[r] + column));
        float* total = totals[r] + column;
        _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), _mm256_mul_ps(sum, scale)));
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
  constexpr Tile kTiles[kMaxRows + 1] = {nullptr, multiply_tile<kBits, 1>, multiply_tile<kBits, 2>,
                                         multiply_tile<kBits, 3>, multiply_tile<kBits, 4>};
  // Tiles of nearly equal height: 5 rows are 3 + 2, not 4 + 1.
  const std::int64_t tiles = (a.rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t panel = a.finish.begin / kPanel; panel * kPanel < a.finish.end; ++panel) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t row = a.rows * tile / tiles;
      kTiles[a.rows * (tile + 1) / tiles - row](a, panel, row);
    }
  }
}

}  // namespace

const IntegerKernels kAvx2Integer = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
