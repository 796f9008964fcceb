// Kernels for bfloat16 activations on AVX-512, in two arithmetics: float32 multiply-add, which
// every CPU of this level has, and vdpbf16ps, which sums two products per lane. Which one is faster
// depends on the CPU: dispatch.cc chooses.
//
// A tile is a panel of 64 columns (4 registers) times up to 6 rows: 24 accumulators, 4 registers of
// weights and one broadcast of activations. With few rows weights are unpacked on the way into the
// product; with more, a block of `in` is unpacked once, into a buffer that all row tiles read.
//
// Each accumulator is one chain of additions per group, in the order of the parts of a step
// (below), whatever the tile: so a row does not depend on the other rows, nor on the split of
// columns.
#include <immintrin.h>

#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

constexpr int kVectors = 4;  // of 16 columns, in a panel
constexpr int kMaxRows = 6;
constexpr int kDirectRows = 3;              // up to here weights are not buffered
constexpr std::int64_t kBlockSteps = 16;    // buffered at a time: 32 KiB of float32
constexpr std::int64_t kBlockRows = 120;    // whose sums are kept at a time: 30 KiB
constexpr std::int64_t kFetchAhead = 4096;  // bytes

constexpr std::int64_t step_bytes(int bits) {
  return bits == 4 ? kStepBytes4 : kStepBytes8;
}

// This and what follows is inlined by force, for a call would pass the accumulators through memory.
[[gnu::always_inline]] inline __m512i load(const void* from) {
  return _mm512_loadu_si512(from);
}

// Code number kCode of a quad of stored 8-bit codes, less 128, as float32. The byte becomes a part
// of the mantissa of a power of two, which is then subtracted: exact.
template <int kCode>
[[gnu::always_inline]] inline __m512 byte_to_float(__m512i quad) {
  constexpr bool kLow = kCode % 2 == 0;  // in its half of the lane
  const __m512i half = kCode < 2 ? quad : _mm512_srli_epi32(quad, 16);
  const __m512i mask = _mm512_set1_epi32(kLow ? 0xff : 0xff00);
  const __m512i power = _mm512_set1_epi32(kLow ? 0x4b000000 : 0x47000000);  // 2^23, 2^15
  const __m512i bits = _mm512_ternarylogic_epi32(half, mask, power, 0xea);  // (half & mask) | power
  return _mm512_sub_ps(_mm512_castsi512_ps(bits),
                       _mm512_set1_ps(kLow ? 8388608.0f + 128.0f : 32768.0f + 128.0f));
}

// Activations from some row and step on.
struct Rows {
  const std::uint16_t* values;
  std::int64_t stride;
};

// float32: a part is one code of each column. Their order is 0 4 1 5 2 6 3 7.
struct FloatProduct {
  static constexpr int kParts = 8;

  // Inline assembly, since gcc 12 spills the accumulators of a tile written with intrinsics.
  [[gnu::always_inline]] static void multiply(__m512& sum, __m512i weights, __m512i activations) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(activations));
  }

  template <int kBits, int kPart>
  [[gnu::always_inline]] static __m512i unpack(const std::uint8_t* step, int vector) {
    if constexpr (kBits == 8) {
      const __m512i quad = load(step + kPart % 2 * kQuadBytes + vector * 64);
      return _mm512_castps_si512(byte_to_float<kPart / 2>(quad));
    }
    // The permutation looks at the lowest 4 bits of a lane only.
    const __m512 table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i codes = _mm512_srli_epi32(load(step + vector * 64), 4 * kPart);
    return _mm512_castps_si512(_mm512_permutexvar_ps(codes, table));
  }

  // Activations of a tile, widened. Of 32 neighbours in memory those at even places come first.
  struct Activations {
    const float* values;

    template <int kRows>
    [[gnu::always_inline]] static Activations make(const Rows& from,
                                                   std::int64_t steps,
                                                   float* memory) {
      for (int row = 0; row < kRows; ++row) {
        for (std::int64_t k = 0; k < steps * kStep; k += 32) {
          const std::int64_t left = steps * kStep - k;
          const __mmask32 mask = left < 32 ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
          const __m512i pairs = _mm512_maskz_loadu_epi16(mask, from.values + row * from.stride + k);
          float* to = memory + row * kBlockSteps * kStep + k;
          _mm512_store_si512(to, _mm512_slli_epi32(pairs, 16));
          _mm512_store_si512(to + 16, _mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
        }
      }
      return {memory};
    }

    [[gnu::always_inline]] const float* at(std::int64_t step) const {
      return values + step / 4 * 32 + step % 4 * 4;
    }

    // One activation of a step, in every lane.
    template <int kPart>
    [[gnu::always_inline]] __m512i broadcast(int row, const float* step) const {
      constexpr std::int64_t kPlace = kPart < 4 ? kPart : 12 + kPart;
      return _mm512_castps_si512(_mm512_set1_ps(step[row * kBlockSteps * kStep + kPlace]));
    }
  };
};

// bfloat16: a part is two codes of each column, (0, 2), (4, 6), (1, 3), (5, 7), as the activations
// lie. A 16-bit half of a lane is the even bytes of a quad, and shifted by 8 the odd ones.
struct Bf16Product {
  static constexpr int kParts = 4;

  [[gnu::always_inline]] static void multiply(__m512& sum, __m512i weights, __m512i activations) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(activations));
  }

  template <int kBits, int kPart>
  [[gnu::always_inline]] static __m512i unpack(const std::uint8_t* step, int vector) {
    if constexpr (kBits == 8) {
      const __m512i quad = load(step + kPart % 2 * kQuadBytes + vector * 64);
      // Whole numbers up to 128 are the upper half of a float32.
      const __m512i first = _mm512_castps_si512(byte_to_float<kPart / 2>(quad));
      const __m512i second = _mm512_castps_si512(byte_to_float<2 + kPart / 2>(quad));
      return _mm512_or_si512(_mm512_srli_epi32(first, 16), second);
    }
    // bfloat16 of -8 to 7. The permutation looks at the lowest 5 bits; the fifth is of another
    // code, so the table is there twice.
    const __m256i once = _mm256_setr_epi16(
        static_cast<short>(0xc100), static_cast<short>(0xc0e0), static_cast<short>(0xc0c0),
        static_cast<short>(0xc0a0), static_cast<short>(0xc080), static_cast<short>(0xc040),
        static_cast<short>(0xc000), static_cast<short>(0xbf80), 0x0000, 0x3f80, 0x4000, 0x4040,
        0x4080, 0x40a0, 0x40c0, 0x40e0);
    const __m512i table = _mm512_broadcast_i64x4(once);
    const __m512i codes = _mm512_srli_epi32(load(step + vector * 64), 4 * kPart);
    return _mm512_permutexvar_epi16(codes, table);
  }

  struct Activations {
    Rows rows;

    template <int kRows>
    [[gnu::always_inline]] static Activations make(const Rows& from, std::int64_t, float*) {
      return {from};
    }

    [[gnu::always_inline]] const std::uint16_t* at(std::int64_t step) const {
      return rows.values + step * kStep;
    }

    // A pair of activations of a step, in every lane.
    template <int kPart>
    [[gnu::always_inline]] __m512i broadcast(int row, const std::uint16_t* step) const {
      std::int32_t pair;
      __builtin_memcpy(&pair, step + row * rows.stride + 2 * kPart, sizeof pair);
      return _mm512_set1_epi32(pair);
    }
  };
};

// Weights as they are packed, and as they lie in the buffer: [steps, parts, 64 lanes].
template <class Product, int kBits>
struct Packed {
  static constexpr bool kFetched = true;
  static constexpr std::int64_t kBytes = step_bytes(kBits);
  template <int kPart>
  [[gnu::always_inline]] static __m512i get(const std::uint8_t* step, int vector) {
    return Product::template unpack<kBits, kPart>(step, vector);
  }
};

template <class Product>
struct Buffered {
  static constexpr bool kFetched = false;
  static constexpr std::int64_t kBytes = Product::kParts * kPanel * 4;
  template <int kPart>
  [[gnu::always_inline]] static __m512i get(const std::uint8_t* step, int vector) {
    return load(step + (kPart * kVectors + vector) * 64);
  }
};

// A piece of a panel: at most kBlockSteps steps of one group.
struct Block {
  const std::uint8_t* weights;
  std::int64_t steps;
  Rows rows;  // from the first of the call
  bool begins_group, ends_group;
  const float* scales;             // [64], of the group
  const std::int8_t* zero_points;  // [64] or null
  const float* activation_sums;    // of the group and the first row of the call
  std::int64_t groups;
};

// Memory of a call: for each row what is in a group so far, and the scaled groups before it.
struct Sums {
  alignas(64) float parts[kBlockRows * kPanel];
  alignas(64) float totals[kBlockRows * kPanel];
  alignas(64) float activations[kMaxRows * kBlockSteps * kStep];  // of a tile
};

template <class Product, class Weights, int kRows, int kPart = 0, class Step>
[[gnu::always_inline]] inline void add_step(const std::uint8_t* weights,
                                            const typename Product::Activations& activations,
                                            const Step* step,
                                            __m512 (&sums)[kRows][kVectors]) {
  __m512i columns[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    columns[v] = Weights::template get<kPart>(weights, v);
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const __m512i values = activations.template broadcast<kPart>(r, step);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Product::multiply(sums[r][v], columns[v], values);
    }
  }
  if constexpr (kPart + 1 < Product::kParts) {
    add_step<Product, Weights, kRows, kPart + 1>(weights, activations, step, sums);
  }
}

// totals += scale * (sums - zero point * sum of the activations).
template <int kRows>
[[gnu::always_inline]] inline void end_group(const Block& b,
                                             std::int64_t row,
                                             const __m512 (&sums)[kRows][kVectors],
                                             float* totals) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m512 scale = _mm512_loadu_ps(b.scales + 16 * v);
    __m512 zero = _mm512_setzero_ps();
    if (b.zero_points != nullptr) {
      const void* points = b.zero_points + 16 * v;
      zero = _mm512_cvtepi32_ps(
          _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(points))));
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      __m512 part = sums[r][v];
      if (b.zero_points != nullptr) {
        const __m512 sum = _mm512_set1_ps(b.activation_sums[(row + r) * b.groups]);
        part = _mm512_fnmadd_ps(zero, sum, part);
      }
      float* total = totals + r * kPanel + 16 * v;
      _mm512_store_ps(total, _mm512_fmadd_ps(part, scale, _mm512_load_ps(total)));
    }
  }
}

template <class Product, class Weights, int kRows>
void multiply_tile(const Block& b, std::int64_t row, Sums& kept) {
  const Rows rows{b.rows.values + row * b.rows.stride, b.rows.stride};
  const auto activations =
      Product::Activations::template make<kRows>(rows, b.steps, kept.activations);
  float* parts = kept.parts + row * kPanel;
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] =
          b.begins_group ? _mm512_setzero_ps() : _mm512_load_ps(parts + r * kPanel + 16 * v);
    }
  }
  const std::uint8_t* weights = b.weights;
  for (std::int64_t step = 0; step < b.steps; ++step, weights += Weights::kBytes) {
    // Packed weights come from memory, faster than the hardware fetches them by itself.
    for (std::int64_t at = 0; Weights::kFetched && at < Weights::kBytes; at += 64) {
      _mm_prefetch(weights + kFetchAhead + at, _MM_HINT_T0);
    }
    add_step<Product, Weights, kRows>(weights, activations, activations.at(step), sums);
  }
  if (b.ends_group) {
    end_group(b, row, sums, kept.totals + row * kPanel);
    return;
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      _mm512_store_ps(parts + r * kPanel + 16 * v, sums[r][v]);
    }
  }
}

template <class Product, int kBits, int kPart = 0>
[[gnu::always_inline]] inline void unpack_step(const std::uint8_t* step, std::uint8_t* to) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    _mm512_store_si512(to + (kPart * kVectors + v) * 64,
                       Product::template unpack<kBits, kPart>(step, v));
  }
  if constexpr (kPart + 1 < Product::kParts) {
    unpack_step<Product, kBits, kPart + 1>(step, to);
  }
}

using Tile = void (*)(const Block&, std::int64_t, Sums&);
template <class Product, int kBits>
constexpr Tile kDirectTiles[kDirectRows] = {multiply_tile<Product, Packed<Product, kBits>, 1>,
                                            multiply_tile<Product, Packed<Product, kBits>, 2>,
                                            multiply_tile<Product, Packed<Product, kBits>, 3>};
template <class Product>
constexpr Tile kTiles[kMaxRows] = {
    multiply_tile<Product, Buffered<Product>, 1>, multiply_tile<Product, Buffered<Product>, 2>,
    multiply_tile<Product, Buffered<Product>, 3>, multiply_tile<Product, Buffered<Product>, 4>,
    multiply_tile<Product, Buffered<Product>, 5>, multiply_tile<Product, Buffered<Product>, 6>};

template <class Product, int kBits>
void multiply_block(Block& b, std::int64_t rows, Sums& sums) {
  if (rows <= kDirectRows) {
    kDirectTiles<Product, kBits>[rows - 1](b, 0, sums);
    return;
  }
  alignas(64) std::uint8_t buffer[kBlockSteps * Buffered<Product>::kBytes];
  for (std::int64_t step = 0; step < b.steps; ++step) {
    unpack_step<Product, kBits>(b.weights + step * step_bytes(kBits),
                                buffer + step * Buffered<Product>::kBytes);
  }
  b.weights = buffer;
  // Tiles of nearly equal height: 20 rows are 4 times 5, not 6 + 6 + 6 + 2.
  const std::int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::int64_t row = rows * tile / tiles;
    kTiles<Product>[rows * (tile + 1) / tiles - row - 1](b, row, sums);
  }
}

// At most kBlockRows rows of one panel.
template <class Product, int kBits>
void multiply_rows(const Bf16Arguments& a,
                   std::int64_t panel,
                   std::int64_t row,
                   std::int64_t rows) {
  const WeightArguments& w = a.weights;
  Sums sums;
  __builtin_memset(sums.totals, 0, static_cast<std::size_t>(rows * kPanel) * sizeof(float));
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t begin = group * w.group_steps;
    const std::int64_t end = begin + w.group_steps < w.steps ? begin + w.group_steps : w.steps;
    const std::int64_t place = (panel * w.groups + group) * kPanel;
    for (std::int64_t step = begin; step < end; step += kBlockSteps) {
      Block b;
      b.weights = w.codes + (panel * w.steps + step) * step_bytes(kBits);
      b.rows = {a.activations + row * a.activation_stride + step * kStep, a.activation_stride};
      b.steps = end - step < kBlockSteps ? end - step : kBlockSteps;
      b.begins_group = step == begin;
      b.ends_group = step + b.steps == end;
      b.scales = w.scales + place;
      b.zero_points = w.zero_points == nullptr ? nullptr : w.zero_points + place;
      b.activation_sums = a.activation_sums + row * w.groups + group;
      b.groups = w.groups;
      multiply_block<Product, kBits>(b, rows, sums);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    finish_row(a.finish, row + r, panel, sums.totals + r * kPanel);
  }
}

template <class Product, int kBits>
void matmul(const Bf16Arguments& a) {
  const std::int64_t blocks = (a.rows + kBlockRows - 1) / kBlockRows;
  for (std::int64_t panel = a.finish.begin / kPanel; panel * kPanel < a.finish.end; ++panel) {
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t row = a.rows * block / blocks;
      multiply_rows<Product, kBits>(a, panel, row, a.rows * (block + 1) / blocks - row);
    }
  }
}

}  // namespace

const Bf16Kernels kAvx512VnniBf16 = {matmul<FloatProduct, 8>, matmul<FloatProduct, 4>};
const Bf16Kernels kAvx512VnniBf16Dot = {matmul<Bf16Product, 8>, matmul<Bf16Product, 4>};

}  // namespace qvlm::kernels
