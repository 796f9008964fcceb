// Kernels for AVX2, which has no byte product that sums into 32 bits. A tile is up to 4 rows times
// 16 columns (2 registers): 8 accumulators.
//
// 4-bit weights: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits,
// saturating. A pair is at most 2 * 15 * 128 = 3840, and 8 of them, 30720, still fit: so 4 steps
// are summed in 16 bits before they are widened. 8-bit weights would saturate (2 * 255 * 128), so
// they are multiplied in 16 bits: in a lane with the bytes w0 w1 w2 w3, a mask leaves (w0, w2) and
// a shift (w1, w3), for vpmaddwd with (a0, a2), (a1, a3).
#include <immintrin.h>

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

// out = totals * activation scale (+ bias), for one row of a tile.
void store_row(const MatmulArguments& a,
               std::int64_t row,
               std::int64_t panel,
               const float* totals) {
  const float scale = a.activation_scales[row];
  const std::int64_t start = panel * kPanel;
  const std::int64_t begin = a.begin > start ? a.begin : start;
  const std::int64_t end = a.end < start + kPanel ? a.end : start + kPanel;
  float* out = a.out + row * a.stride;
  for (std::int64_t column = begin; column < end; ++column) {
    const float product = totals[column - start] * scale;
    out[column] = a.bias == nullptr ? product : product + a.bias[column];
  }
}

template <int kBits, int kRows>
void multiply_tile(const MatmulArguments& a, std::int64_t panel, std::int64_t row) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const std::int64_t stride = a.steps * kStep;
  const std::uint8_t* weights = a.codes + panel * a.steps * kStepBytes;
  const std::int8_t* activations = a.activations + row * stride;
  const float* scales = a.scales + panel * a.groups * kPanel;
  alignas(32) float totals[kRows][kPanel] = {};
  Sums sums;
  for (std::int64_t group = 0; group < a.groups; ++group) {
    const std::int64_t first = group * a.group_steps;
    const std::int64_t left = a.steps - first;
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t offset = a.activation_sums[(row + r) * a.groups + group];
      for (std::int64_t column = 0; column < kPanel; column += 8) {
        store(sums.values[r] + column, _mm256_set1_epi32(-(1 << (kBits - 1)) * offset));
      }
    }
    add_group<kBits, kRows>(weights + first * kStepBytes, activations + first * kStep, stride,
                            left < a.group_steps ? left : a.group_steps, sums);
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
    store_row(a, row + r, panel, totals[r]);
  }
}

template <int kBits>
void matmul(const MatmulArguments& a) {
  using Tile = void (*)(const MatmulArguments&, std::int64_t, std::int64_t);
  constexpr Tile kTiles[kMaxRows + 1] = {nullptr, multiply_tile<kBits, 1>, multiply_tile<kBits, 2>,
                                         multiply_tile<kBits, 3>, multiply_tile<kBits, 4>};
  // Tiles of nearly equal height: 5 rows are 3 + 2, not 4 + 1.
  const std::int64_t tiles = (a.rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t panel = a.begin / kPanel; panel * kPanel < a.end; ++panel) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t row = a.rows * tile / tiles;
      kTiles[a.rows * (tile + 1) / tiles - row](a, panel, row);
    }
  }
}

std::int32_t add_lanes(__m256i lanes) {
  alignas(32) std::int32_t values[8];
  store(values, lanes);
  std::int32_t sum = 0;
  for (std::int32_t value : values) {
    sum += value;
  }
  return sum;
}

void group_sums(const std::int8_t* codes,
                std::int64_t rows,
                std::int64_t steps,
                std::int64_t group_steps,
                std::int32_t* sums) {
  for (std::int64_t row = 0; row < rows; ++row, codes += steps * kStep) {
    for (std::int64_t step = 0; step < steps; step += group_steps) {
      const std::int64_t last = step + group_steps < steps ? step + group_steps : steps;
      __m256i sum = _mm256_setzero_si256();
      std::int64_t k = step * kStep;
      for (; k + 32 <= last * kStep; k += 32) {
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), load(codes + k));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
      }
      std::int32_t total = add_lanes(sum);
      for (; k < last * kStep; ++k) {
        total += codes[k];
      }
      *sums++ = total;
    }
  }
}

// Loads 8 values, or fewer followed by zeros.
inline __m256 load_values(const float* values, std::int64_t count) {
  if (count >= 8) return _mm256_loadu_ps(values);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(values, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), lane));
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
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256();
  for (std::int64_t k = 0; k < in; k += 8) {
    const __m256i bits = _mm256_castps_si256(load_values(values + k, in - k));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
  }
  alignas(32) std::int32_t lanes[8];
  store(lanes, largest);
  std::int32_t absmax = 0;
  for (std::int32_t lane : lanes) {
    absmax = lane > absmax ? lane : absmax;
  }
  const bool finite = absmax < 0x7f800000;
  float step = clip_ratio * __builtin_bit_cast(float, absmax) / half_range;
  if (step == 0.0f) step = 1.0f;
  *scale = finite ? step : __builtin_nanf("");
  for (std::int64_t k = 0; k < in; k += 8) {
    __m256 value = _mm256_div_ps(load_values(values + k, in - k), _mm256_set1_ps(step));
    value = _mm256_max_ps(value, _mm256_set1_ps(low));
    value = _mm256_min_ps(value, _mm256_set1_ps(high));
    const __m256i whole = finite ? _mm256_cvtps_epi32(value) : _mm256_setzero_si256();
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    const __m128i bytes = _mm_packs_epi16(words, words);
    const std::int64_t count = in - k < 8 ? in - k : 8;
    __builtin_memcpy(codes + k, &bytes, static_cast<std::size_t>(count));
  }
}

}  // namespace

const KernelTable kAvx2Table = {"avx2", quantize_row, group_sums, matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
