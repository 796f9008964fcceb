// One tile of a product of codes with AVX-512 VNNI: up to 12 rows of activations times 32 columns,
// or up to 6 rows times 64, so that 24 registers hold sums and the others weights and activations.
// One vpdpbusd multiplies a quad of 16 columns, 64 products. matmul_a8.cc cuts a product into
// tiles.
#pragma once

#include <immintrin.h>

#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

// Where a tile finds its weights.
enum Source {
  kBytes,        // 8-bit codes of a panel
  kNibbles,      // 4-bit codes of a panel
  kNibblesKept,  // the same; stores them as bytes, too, for the other tiles of the same 32 columns
  kExpanded      // those bytes
};

// Bytes fetched ahead of the weights in use, where up to 12 rows leave memory little time.
inline constexpr std::int64_t kAhead = 2048;

inline constexpr std::int64_t kTurnBytes = 8192;  // see multiply_in_turns()

inline constexpr int kTileFloats = 384;  // of 12 x 32 or 6 x 64

struct TileArguments {
  const IntegerArguments* product;
  const std::uint8_t* weights;      // the tile's columns, first step
  std::uint8_t* expanded;           // [steps, 2 quads, 32 columns, 4]
  const std::uint8_t* fetch[2];     // what to bring to the second-level cache meanwhile, first step
  std::int64_t row, panel, column;  // column: of the panel
  float* totals;                    // [rows, columns], of multiply_in_turns() four times as many
  std::int32_t* offsets;            // [rows, groups]
};

// sums += weights (unsigned) * activations (signed). Inline assembly, since gcc 12 spills the sums
// of a tile written with the intrinsic: 2.6 times slower.
[[gnu::always_inline]] inline void dot(__m512i& sums, __m512i weights, __m512i activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(activations));
}

// The same with pairs of 16-bit numbers.
[[gnu::always_inline]] inline void dot_pairs(__m512i& sums, __m512i a, __m512i b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
}

[[gnu::always_inline]] inline __m512i broadcast_word(const void* from) {
  std::int32_t word;
  __builtin_memcpy(&word, from, sizeof word);
  return _mm512_set1_epi32(word);
}

// Totals times the scales of the rows, and out.
[[gnu::noinline]] void finish_tile(const TileArguments& t,
                                   std::int64_t rows,
                                   std::int64_t columns) {
  const IntegerArguments& a = *t.product;
  float* sums = t.totals;
  for (std::int64_t row = t.row; row < t.row + rows; ++row, sums += columns) {
    const Floats scale = all(a.activation_scales[row]);
    for (std::int64_t c = 0; c < columns; c += kLanes) {
      store_floats(sums + c, load_floats(sums + c) * scale);
    }
    finish_columns(a.finish, row, t.panel * kPanel + t.column, columns, sums);
  }
}

template <Source kSource, int kRows, int kVectors, bool kStream>
struct Tile {
  static constexpr bool kFourBits = kSource == kNibbles || kSource == kNibblesKept;
  static constexpr std::int64_t kQuad = kSource == kExpanded ? kQuadBytes / 2 : kQuadBytes;
  static constexpr std::int64_t kStepSize = kFourBits ? kQuad : 2 * kQuad;
  // Of the packed weights, which is what is fetched.
  static constexpr std::int64_t kPackedStep = kSource == kBytes ? kStepBytes8 : kStepBytes4;
  static constexpr int kColumns = 16 * kVectors;
  // With few rows the second quads have their own sums: one chain of dependent vpdpbusd per
  // register would wait for its latency.
  static constexpr int kChains = kRows <= 2 ? 2 : 1;
  using Sums = __m512i[kChains][kRows][kVectors];

  // Rows in blocks of three with a pointer each, so that every address is a pointer plus 0, 1 or 2
  // strides.
  struct Cursor {
    const std::uint8_t* weights;
    std::uint8_t* expanded;
    const std::uint8_t* fetch[2];
    const std::int8_t* activations[4];
    std::int64_t stride;
  };

  template <int kHalf>
  [[gnu::always_inline]] static __m512i load_weights(const std::uint8_t* step, int vector) {
    if constexpr (!kFourBits) return _mm512_loadu_si512(step + kHalf * kQuad + vector * 64);
    const __m512i both = _mm512_loadu_si512(step + vector * 64);
    const __m512i mask = _mm512_set1_epi8(0x0f);
    return _mm512_and_si512(kHalf == 0 ? both : _mm512_srli_epi32(both, 4), mask);
  }

  template <int kHalf>
  [[gnu::always_inline]] static void add_quad(const Cursor& at, __m512i (&sums)[kRows][kVectors]) {
    __m512i columns[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      columns[v] = load_weights<kHalf>(at.weights, v);
      if constexpr (kSource == kNibblesKept) {
        _mm512_store_si512(at.expanded + kHalf * kQuadBytes / 2 + v * 64, columns[v]);
      }
    }
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      const std::int8_t* from = at.activations[row / 3] + row % 3 * at.stride;
      const __m512i codes = broadcast_word(from + 4 * kHalf);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        dot(sums[row][v], columns[v], codes);
      }
    }
  }

  [[gnu::always_inline]] static void fetch(const Cursor& at) {
    if constexpr (kStream) {
#pragma GCC unroll 8
      for (int line = 0; line < kVectors * (kFourBits ? 1 : 2); ++line) {
        const std::int64_t place = line / kVectors * kQuadBytes + line % kVectors * 64;
        _mm_prefetch(reinterpret_cast<const char*>(at.fetch[0] + place), _MM_HINT_T0);
      }
    } else {
      _mm_prefetch(reinterpret_cast<const char*>(at.fetch[0]), _MM_HINT_T1);
      if constexpr (kSource == kBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(at.fetch[1]), _MM_HINT_T1);
      }
    }
  }

  [[gnu::always_inline]] static void add_steps(Cursor& at, std::int64_t steps, Sums& sums) {
    for (; steps > 0; --steps) {
      fetch(at);
      add_quad<0>(at, sums[0]);
      add_quad<1>(at, sums[kChains - 1]);
      at.weights += kStepSize;
      if constexpr (kSource == kNibblesKept) at.expanded += kQuadBytes;
      at.fetch[0] += kPackedStep;
      if constexpr (!kStream && kSource == kBytes) at.fetch[1] += kPackedStep;
#pragma GCC unroll 4
      for (int block = 0; block < (kRows + 2) / 3; ++block) {
        at.activations[block] += kStep;
      }
    }
    if constexpr (kChains == 2) {
#pragma GCC unroll 2
      for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sums[0][row][v] = _mm512_add_epi32(sums[0][row][v], sums[1][row][v]);
        }
      }
    }
  }

  // Sums begin with minus the zero points times the sum of the group's activations.
  [[gnu::always_inline]] static void begin_sums(const TileArguments& t,
                                                std::int64_t group,
                                                Sums& sums) {
    const WeightArguments& w = t.product->weights;
    const std::int32_t* offsets[4];  // in blocks of three rows, like activations
#pragma GCC unroll 4
    for (int block = 0; block < (kRows + 2) / 3; ++block) {
      offsets[block] = t.offsets + 3 * block * w.groups + group;
    }
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[0][row][v] = broadcast_word(offsets[row / 3] + row % 3 * w.groups);
        if constexpr (kChains == 2) sums[1][row][v] = _mm512_setzero_si512();
      }
    }
    if (w.zero_points == nullptr) return;
    const std::int8_t* points = w.zero_points + (t.panel * w.groups + group) * kPanel + t.column;
    if (w.group_steps * kStep < 256) {
      subtract_points<true>(t, group, points, sums[0]);
    } else {
      subtract_points<false>(t, group, points, sums[0]);
    }
  }

  // kShort: the sum of a group's activations fits 16 bits, and one instruction does it.
  template <bool kShort>
  [[gnu::always_inline]] static void subtract_points(const TileArguments& t,
                                                     std::int64_t group,
                                                     const std::int8_t* points,
                                                     __m512i (&sums)[kRows][kVectors]) {
    const std::int64_t groups = t.product->weights.groups;
    const std::int32_t* codes = t.product->activation_sums + t.row * groups + group;
    __m512i zero[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const auto* from = reinterpret_cast<const __m128i*>(points + 16 * v);
      zero[v] = _mm512_sub_epi32(__m512i{}, _mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
      if constexpr (kShort) zero[v] = _mm512_maskz_mov_epi16(0x55555555, zero[v]);
    }
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      const __m512i sum = broadcast_word(codes + row * groups);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kShort) {
          dot_pairs(sums[row][v], zero[v], sum);
        } else {
          sums[row][v] = _mm512_add_epi32(sums[row][v], _mm512_mullo_epi32(zero[v], sum));
        }
      }
    }
  }

  // totals += float(sums) * scales.
  [[gnu::always_inline]] static void add_totals(float* totals,
                                                const float* scales,
                                                const Sums& sums) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512 scale = _mm512_loadu_ps(scales + 16 * v);
#pragma GCC unroll 12
      for (int row = 0; row < kRows; ++row) {
        float* total = totals + row * kColumns + 16 * v;
        const __m512 part = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[0][row][v]), scale);
        _mm512_store_ps(total, _mm512_add_ps(part, _mm512_load_ps(total)));
      }
    }
  }

  [[gnu::always_inline]] static void clear_totals(float* totals) {
    for (int i = 0; i < kRows * kColumns; i += 16) {
      _mm512_store_ps(totals + i, _mm512_setzero_ps());
    }
  }

  // The tile's place at a step.
  [[gnu::always_inline]] static Cursor cursor(const TileArguments& t, std::int64_t step) {
    const IntegerArguments& a = *t.product;
    Cursor at;
    at.weights = t.weights + step * kStepSize;
    at.expanded = t.expanded + step * kQuadBytes;
    at.fetch[0] = t.fetch[0] + step * kPackedStep;
    at.fetch[1] = t.fetch[1] + step * kPackedStep;
    at.stride = a.activation_stride;
#pragma GCC unroll 4
    for (int block = 0; block < (kRows + 2) / 3; ++block) {
      at.activations[block] = a.activations + (t.row + 3 * block) * at.stride + step * kStep;
    }
    return at;
  }

  [[gnu::noinline]] static void multiply(const TileArguments& t) {
    const WeightArguments& w = t.product->weights;
    Cursor at = cursor(t, 0);
    float* const totals = t.totals;
    clear_totals(totals);
    const float* scales = w.scales + t.panel * w.groups * kPanel + t.column;
    for (std::int64_t group = 0; group < w.groups; ++group, scales += kPanel) {
      const std::int64_t left = w.steps - group * w.group_steps;
      Sums sums;
      begin_sums(t, group, sums);
      add_steps(at, left < w.group_steps ? left : w.group_steps, sums);
      add_totals(totals, scales, sums);
    }
    finish_tile(t, kRows, kColumns);
  }

  // For a single group: the two halves of a panel in turns of kTurn steps, so that memory is read
  // at an even pace.
  [[gnu::noinline]] static void multiply_in_turns(const TileArguments& both) {
    TileArguments t[2] = {both, both};
    t[1].column += 32;
    t[1].weights += 128;
    t[1].fetch[0] += 128;
    t[1].totals += kTileFloats;
    for (int half = 0; half < 2; ++half) {
      clear_totals(t[half].totals);
      store_begin(t[half]);
    }
    for (std::int64_t step = 0; step < both.product->weights.steps; step += kTurn) {
      take_turn(t[0], step);
      take_turn(t[1], step);
    }
    finish_tile(t[0], kRows, kColumns);
    finish_tile(t[1], kRows, kColumns);
  }

  static constexpr std::int64_t kTurn = kTurnBytes / kPackedStep;

  // Where sums are between turns.
  static std::uint8_t* kept_sums(const TileArguments& t) {
    return reinterpret_cast<std::uint8_t*>(t.totals + 2 * kTileFloats);
  }

  [[gnu::always_inline]] static void store_sums(const TileArguments& t, const Sums& sums) {
    std::uint8_t* const kept = kept_sums(t);
#pragma GCC unroll 24
    for (int i = 0; i < kRows * kVectors; ++i) {
      _mm512_store_si512(kept + 64 * i, sums[0][i / kVectors][i % kVectors]);
    }
  }

  [[gnu::noinline]] static void store_begin(const TileArguments& t) {
    Sums sums;
    begin_sums(t, 0, sums);
    store_sums(t, sums);
  }

  [[gnu::noinline]] static void take_turn(const TileArguments& t, std::int64_t step) {
    const WeightArguments& w = t.product->weights;
    const std::int64_t left = w.steps - step;
    Cursor at = cursor(t, step);
    const std::uint8_t* const kept = kept_sums(t);
    Sums sums;
#pragma GCC unroll 24
    for (int i = 0; i < kRows * kVectors; ++i) {
      sums[0][i / kVectors][i % kVectors] = _mm512_load_si512(kept + 64 * i);
    }
    add_steps(at, left < kTurn ? left : kTurn, sums);
    if (left <= kTurn) {
      add_totals(t.totals, w.scales + t.panel * kPanel + t.column, sums);
    } else {
      store_sums(t, sums);
    }
  }
};

}  // namespace
}  // namespace qvlm::kernels
