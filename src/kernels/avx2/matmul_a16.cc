// Kernels for bfloat16 activations on AVX2 with FMA. A block of a panel is unpacked once to
// float32, in a buffer that stays in the first cache and that all rows read; a tile is 16 columns
// (2 registers) times up to 6 rows: 12 accumulators, 2 registers of weights and one broadcast.
//
// Each accumulator is one chain of additions per group, in the order of the codes in the buffer,
// whatever the tile: so a row does not depend on the other rows, nor on the split of columns.
#include <immintrin.h>

#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

constexpr int kMaxRows = 6;
constexpr int kVectors = 2;  // of 8 columns, in a tile
constexpr int kTileColumns = 8 * kVectors;
constexpr std::int64_t kBlockSteps = 8;  // unpacked at a time: 16 KiB
constexpr std::int64_t kBlockCodes = kBlockSteps * kStep;
constexpr std::int64_t kBlockRows = 120;  // whose sums are kept at a time: 30 KiB

// A piece of a panel: at most kBlockSteps steps of one group.
struct Block {
  const std::uint8_t* weights;
  const std::uint16_t* activations;  // from the first row of the call
  std::int64_t stride, steps;
  bool begins_group, ends_group;
  const float* scales;             // [64], of the group
  const std::int8_t* zero_points;  // [64] or null
  const float* activation_sums;    // of the group and the first row of the call
  std::int64_t groups;
};

// Memory of a call: for each row what is in a group so far, and the scaled groups before it; and
// the operands of a block and of a tile.
struct Memory {
  alignas(32) float parts[kBlockRows * kPanel];
  alignas(32) float totals[kBlockRows * kPanel];
  alignas(32) float weights[kBlockCodes * kPanel];  // [steps, 8, 64]
  alignas(32) float activations[kMaxRows * kBlockCodes];
};

// Inline assembly keeps the accumulators in registers.
[[gnu::always_inline]] inline void multiply(__m256& sum, __m256 weights, __m256 activations) {
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(activations));
}

// The codes of a step, less 2^(bits-1), in the order 0 4 1 5 2 6 3 7.
template <int kBits>
void unpack_step(const std::uint8_t* step, float* to) {
  const __m256i mask = _mm256_set1_epi32((1 << kBits) - 1);
  const __m256 zero = _mm256_set1_ps(1 << (kBits - 1));
  for (int column = 0; column < kPanel; column += 8) {
    const auto* from = reinterpret_cast<const __m256i*>(step + 4 * column);
    const __m256i first = _mm256_loadu_si256(from);
    const __m256i second =
        kBits == 4 ? _mm256_srli_epi32(first, 4) : _mm256_loadu_si256(from + kQuadBytes / 32);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m256i low = _mm256_and_si256(_mm256_srli_epi32(first, 8 * k), mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi32(second, 8 * k), mask);
      float* place = to + 2 * k * kPanel + column;
      _mm256_store_ps(place, _mm256_sub_ps(_mm256_cvtepi32_ps(low), zero));
      _mm256_store_ps(place + kPanel, _mm256_sub_ps(_mm256_cvtepi32_ps(high), zero));
    }
  }
}

// Of 16 neighbours in memory those at even places come first.
void widen(const std::uint16_t* values, std::int64_t steps, float* to) {
  for (std::int64_t step = 0; step < steps; step += 2) {
    const auto* from = reinterpret_cast<const __m128i*>(values + step * kStep);
    const __m128i next = step + 1 < steps ? _mm_loadu_si128(from + 1) : _mm_setzero_si128();
    const __m256i pairs = _mm256_set_m128i(next, _mm_loadu_si128(from));
    const __m256i odd = _mm256_and_si256(pairs, _mm256_set1_epi32(-65536));
    _mm256_store_ps(to + step * kStep, _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)));
    _mm256_store_ps(to + step * kStep + 8, _mm256_castsi256_ps(odd));
  }
}

template <int kRows>
[[gnu::always_inline]] inline void add_step(const float* weights,
                                            const float* activations,
                                            __m256 (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int code = 0; code < kStep; ++code) {
    const __m256 first = _mm256_load_ps(weights + code * kPanel);
    const __m256 second = _mm256_load_ps(weights + code * kPanel + 8);
    const float* place = activations + (code < 4 ? code : 4 + code);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m256 value = _mm256_broadcast_ss(place + r * kBlockCodes);
      multiply(sums[r][0], first, value);
      multiply(sums[r][1], second, value);
    }
  }
}

// totals += scale * (sums - zero point * sum of the activations).
template <int kRows>
[[gnu::always_inline]] inline void end_group(const Block& b,
                                             std::int64_t row,
                                             std::int64_t column,
                                             const __m256 (&sums)[kRows][kVectors],
                                             float* totals) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const __m256 scale = _mm256_loadu_ps(b.scales + column + 8 * v);
    __m256 zero = _mm256_setzero_ps();
    if (b.zero_points != nullptr) {
      const void* points = b.zero_points + column + 8 * v;
      zero = _mm256_cvtepi32_ps(
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(points))));
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      __m256 part = sums[r][v];
      if (b.zero_points != nullptr) {
        const __m256 sum = _mm256_set1_ps(b.activation_sums[(row + r) * b.groups]);
        part = _mm256_fnmadd_ps(zero, sum, part);
      }
      float* total = totals + r * kPanel + 8 * v;
      _mm256_store_ps(total, _mm256_fmadd_ps(part, scale, _mm256_load_ps(total)));
    }
  }
}

// The unpacked block times 16 columns of kRows rows, whose activations are widened.
template <int kRows>
void multiply_tile(const Block& b, std::int64_t row, std::int64_t column, Memory& memory) {
  float* parts = memory.parts + row * kPanel + column;
  __m256 sums[kRows][kVectors];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] =
          b.begins_group ? _mm256_setzero_ps() : _mm256_load_ps(parts + r * kPanel + 8 * v);
    }
  }
  const float* weights = memory.weights + column;
  for (std::int64_t step = 0; step < b.steps; ++step, weights += kStep * kPanel) {
    add_step<kRows>(weights, memory.activations + step / 2 * 16 + step % 2 * 4, sums);
  }
  if (b.ends_group) {
    end_group(b, row, column, sums, memory.totals + row * kPanel + column);
    return;
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      _mm256_store_ps(parts + r * kPanel + 8 * v, sums[r][v]);
    }
  }
}

template <int kBits>
void multiply_block(const Block& b, std::int64_t rows, Memory& memory) {
  using Tile = void (*)(const Block&, std::int64_t, std::int64_t, Memory&);
  constexpr Tile kTiles[kMaxRows + 1] = {nullptr,          multiply_tile<1>, multiply_tile<2>,
                                         multiply_tile<3>, multiply_tile<4>, multiply_tile<5>,
                                         multiply_tile<6>};
  for (std::int64_t step = 0; step < b.steps; ++step) {
    unpack_step<kBits>(b.weights + step * (kBits == 4 ? kStepBytes4 : kStepBytes8),
                       memory.weights + step * kStep * kPanel);
  }
  // Tiles of nearly equal height: 20 rows are 4 times 5, not 6 + 6 + 6 + 2.
  const std::int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::int64_t row = rows * tile / tiles;
    const std::int64_t height = rows * (tile + 1) / tiles - row;
    for (std::int64_t r = 0; r < height; ++r) {
      widen(b.activations + (row + r) * b.stride, b.steps, memory.activations + r * kBlockCodes);
    }
    for (std::int64_t column = 0; column < kPanel; column += kTileColumns) {
      kTiles[height](b, row, column, memory);
    }
  }
}

// At most kBlockRows rows of one panel.
template <int kBits>
void multiply_rows(const Bf16Arguments& a,
                   std::int64_t panel,
                   std::int64_t row,
                   std::int64_t rows) {
  const WeightArguments& w = a.weights;
  Memory memory;
  __builtin_memset(memory.totals, 0, static_cast<std::size_t>(rows * kPanel) * sizeof(float));
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t begin = group * w.group_steps;
    const std::int64_t end = begin + w.group_steps < w.steps ? begin + w.group_steps : w.steps;
    const std::int64_t place = (panel * w.groups + group) * kPanel;
    for (std::int64_t step = begin; step < end; step += kBlockSteps) {
      Block b;
      b.weights = w.codes + (panel * w.steps + step) * (kBits == 4 ? kStepBytes4 : kStepBytes8);
      b.activations = a.activations + row * a.activation_stride + step * kStep;
      b.stride = a.activation_stride;
      b.steps = end - step < kBlockSteps ? end - step : kBlockSteps;
      b.begins_group = step == begin;
      b.ends_group = step + b.steps == end;
      b.scales = w.scales + place;
      b.zero_points = w.zero_points == nullptr ? nullptr : w.zero_points + place;
      b.activation_sums = a.activation_sums + row * w.groups + group;
      b.groups = w.groups;
      multiply_block<kBits>(b, rows, memory);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    finish_row(a.finish, row + r, panel, memory.totals + r * kPanel);
  }
}

template <int kBits>
void matmul(const Bf16Arguments& a) {
  const std::int64_t blocks = (a.rows + kBlockRows - 1) / kBlockRows;
  for (std::int64_t panel = a.finish.begin / kPanel; panel * kPanel < a.finish.end; ++panel) {
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t row = a.rows * block / blocks;
      multiply_rows<kBits>(a, panel, row, a.rows * (block + 1) / blocks - row);
    }
  }
}

}  // namespace

const Bf16Kernels kAvx2Bf16 = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
