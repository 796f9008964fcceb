// Kernels for AVX2, which has no byte product that sums into 32 bits. A tile is up to 4 rows times
// 16 columns (2 registers): 8 accumulators. What needs to be done to weights before they are
// multiplied is done once for all rows, in a buffer that stays in the first cache; two tiles of
// rows do without.
//
// 4-bit weights: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits,
// saturating. A pair is at most 2 * 15 * 128 = 3840, and 8 of them, 30720, still fit: so 4 steps
// are summed in 16 bits before they are widened. 8-bit weights would saturate (2 * 255 * 128), so
// they are multiplied in 16 bits: in a lane with the bytes w0 w1 w2 w3, a mask leaves (w0, w2) and
// a shift (w1, w3), for vpmaddwd with (a0, a2), (a1, a3). Nibbles of 8-bit weights in vpmaddubsw
// would take as many instructions, and the widening.
#include <immintrin.h>

#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

constexpr int kMaxRows = 4;
constexpr int kDirectRows = 8;  // up to here weights are not buffered
constexpr int kVectors = 2;     // of 8 columns, in a tile
constexpr int kTileColumns = 8 * kVectors;
constexpr std::int64_t kBlockSteps = 16;  // buffered at a time: 16 KiB, 4-bit weights 8 KiB
constexpr std::int64_t kNarrowSteps = 4;  // summed in 16 bits
constexpr std::int64_t kBlockRows = 120;  // whose sums are kept at a time: 30 KiB
constexpr std::int64_t kBufferStep8 = 4 * kQuadBytes;
constexpr std::int64_t kBufferStep4 = 2 * kQuadBytes;

[[gnu::always_inline]] inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

[[gnu::always_inline]] inline void store(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}

[[gnu::always_inline]] inline __m256i broadcast_word(const void* from) {
  std::int32_t word;
  __builtin_memcpy(&word, from, sizeof word);
  return _mm256_set1_epi32(word);
}

// sum += weights * activations, of bytes in 16 bits and of 16 bits in 32. Inline assembly, since
// gcc 12 takes so many registers for the products of a tile that its sums go through memory.
[[gnu::always_inline]] inline void add_bytes(__m256i& sum, __m256i weights, __m256i activations) {
  __m256i products;
  asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
      : "+x"(sum), "=&x"(products)
      : "x"(weights), "x"(activations));
}

[[gnu::always_inline]] inline void add_words(__m256i& sum, __m256i weights, __m256i activations) {
  __m256i products;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
      : "+x"(sum), "=&x"(products)
      : "x"(weights), "x"(activations));
}

// A piece of a panel: at most kBlockSteps steps of one group.
struct Block {
  const std::uint8_t* weights;
  const std::int8_t* activations;  // from the first row of the call
  std::int64_t stride, steps;
};

// Memory of a call: for each row the integer sums of a group and the scaled groups before it; the
// buffered weights; and activations of a tile in 16 bits, each quad a0 a1 a2 a3 as a0, a2, a1, a3.
struct Memory {
  alignas(32) std::int32_t sums[kBlockRows * kPanel];
  alignas(32) float totals[kBlockRows * kPanel];
  alignas(32) std::uint8_t weights[kBlockSteps * kBufferStep8];
  alignas(32) std::int16_t activations[kMaxRows][kBlockSteps * kStep];
};

// 8-bit weights of 8 columns of a quad: their even codes and their odd ones, in 16 bits.
struct PackedBytes {
  static constexpr std::int64_t kQuad = kQuadBytes, kStepSize = kStepBytes8;
  [[gnu::always_inline]] static __m256i even(const std::uint8_t* quad) {
    return _mm256_and_si256(load(quad), _mm256_set1_epi16(0x00ff));
  }
  [[gnu::always_inline]] static __m256i odd(const std::uint8_t* quad) {
    return _mm256_srli_epi16(load(quad), 8);
  }
};
struct BufferedBytes {
  static constexpr std::int64_t kQuad = 2 * kQuadBytes, kStepSize = kBufferStep8;
  [[gnu::always_inline]] static __m256i even(const std::uint8_t* quad) { return load(quad); }
  [[gnu::always_inline]] static __m256i odd(const std::uint8_t* quad) {
    return load(quad + kQuadBytes);
  }
};

// 4-bit weights of 8 columns: their quads, in bytes.
struct PackedNibbles {
  static constexpr std::int64_t kStepSize = kStepBytes4;
  [[gnu::always_inline]] static __m256i quad(const std::uint8_t* step, int number) {
    const __m256i both = load(step);
    return _mm256_and_si256(number == 0 ? both : _mm256_srli_epi16(both, 4),
                            _mm256_set1_epi8(0x0f));
  }
};
struct BufferedNibbles {
  static constexpr std::int64_t kStepSize = kBufferStep4;
  [[gnu::always_inline]] static __m256i quad(const std::uint8_t* step, int number) {
    return load(step + number * kQuadBytes);
  }
};

template <bool kBuffered>
struct Choose {
  using Bytes = PackedBytes;
  using Nibbles = PackedNibbles;
};
template <>
struct Choose<true> {
  using Bytes = BufferedBytes;
  using Nibbles = BufferedNibbles;
};

template <int kBits>
void fill_buffer(const Block& b, std::uint8_t* to) {
  for (std::int64_t step = 0; step < b.steps; ++step) {
    for (std::int64_t at = 0; at < kQuadBytes; at += 32) {
      if constexpr (kBits == 4) {
        const std::uint8_t* from = b.weights + step * kStepBytes4 + at;
        store(to + step * kBufferStep4 + at, PackedNibbles::quad(from, 0));
        store(to + step * kBufferStep4 + kQuadBytes + at, PackedNibbles::quad(from, 1));
      } else {
        for (int quad = 0; quad < 2; ++quad) {
          const std::uint8_t* from = b.weights + step * kStepBytes8 + quad * kQuadBytes + at;
          std::uint8_t* place = to + step * kBufferStep8 + 2 * quad * kQuadBytes + at;
          store(place, PackedBytes::even(from));
          store(place + kQuadBytes, PackedBytes::odd(from));
        }
      }
    }
  }
}

void widen(const std::int8_t* codes, std::int64_t steps, std::int16_t* wide) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1);
  for (std::int64_t step = 0; step < steps; ++step) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + step * kStep));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(wide + step * kStep),
                     _mm_cvtepi8_epi16(_mm_shuffle_epi8(bytes, order)));
  }
}

// Adds a block to 16 columns of sums, [kRows, 64]. weights, sums: at these columns.
template <class Weights, int kRows>
void multiply_tile_w8(const std::uint8_t* weights,
                      const std::int16_t (&activations)[kMaxRows][kBlockSteps * kStep],
                      std::int64_t steps,
                      std::int32_t* sums) {
  __m256i total[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = load(sums + r * kPanel + 8 * v);
    }
  }
  for (std::int64_t quad = 0; quad < 2 * steps; ++quad, weights += Weights::kQuad) {
    const __m256i even[kVectors] = {Weights::even(weights), Weights::even(weights + 32)};
    const __m256i odd[kVectors] = {Weights::odd(weights), Weights::odd(weights + 32)};
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i first = broadcast_word(activations[r] + 4 * quad);
      const __m256i second = broadcast_word(activations[r] + 4 * quad + 2);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        add_words(total[r][v], even[v], first);
        add_words(total[r][v], odd[v], second);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      store(sums + r * kPanel + 8 * v, total[r][v]);
    }
  }
}

// Adds at most kNarrowSteps steps to 16 columns of sums.
template <class Weights, int kRows>
[[gnu::always_inline]] inline void add_narrow(const std::uint8_t* weights,
                                              const std::int8_t* activations,
                                              std::int64_t stride,
                                              std::int64_t steps,
                                              std::int32_t* sums) {
  __m256i narrow[kRows][kVectors] = {};
  for (; steps > 0; --steps, weights += Weights::kStepSize, activations += kStep) {
#pragma GCC unroll 2
    for (int quad = 0; quad < 2; ++quad) {
      const __m256i columns[kVectors] = {Weights::quad(weights, quad),
                                         Weights::quad(weights + 32, quad)};
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i codes = broadcast_word(activations + r * stride + 4 * quad);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          add_bytes(narrow[r][v], columns[v], codes);
        }
      }
    }
  }
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      std::int32_t* sum = sums + r * kPanel + 8 * v;
      store(sum, _mm256_add_epi32(load(sum), _mm256_madd_epi16(narrow[r][v], ones)));
    }
  }
}

// The same as multiply_tile_w8.
template <class Weights, int kRows>
void multiply_tile_w4(const std::uint8_t* weights,
                      const std::int8_t* activations,
                      std::int64_t stride,
                      std::int64_t steps,
                      std::int32_t* sums) {
  for (; steps >= kNarrowSteps; steps -= kNarrowSteps) {
    add_narrow<Weights, kRows>(weights, activations, stride, kNarrowSteps, sums);
    weights += kNarrowSteps * Weights::kStepSize;
    activations += kNarrowSteps * kStep;
  }
  if (steps > 0) add_narrow<Weights, kRows>(weights, activations, stride, steps, sums);
}

// A block times kRows rows. weights: packed or buffered.
template <int kBits, bool kBuffered, int kRows>
void multiply_rows(const Block& b, const std::uint8_t* weights, std::int64_t row, Memory& memory) {
  const std::int8_t* activations = b.activations + row * b.stride;
  std::int32_t* sums = memory.sums + row * kPanel;
  if constexpr (kBits == 8) {
    for (int r = 0; r < kRows; ++r) {
      widen(activations + r * b.stride, b.steps, memory.activations[r]);
    }
  }
  for (std::int64_t column = 0; column < kPanel; column += kTileColumns) {
    const std::uint8_t* from = weights + 4 * column;
    if constexpr (kBits == 8) {
      using Weights = typename Choose<kBuffered>::Bytes;
      multiply_tile_w8<Weights, kRows>(from, memory.activations, b.steps, sums + column);
    } else {
      using Weights = typename Choose<kBuffered>::Nibbles;
      multiply_tile_w4<Weights, kRows>(from, activations, b.stride, b.steps, sums + column);
    }
  }
}

// The next block (or panel) is fetched while this one is multiplied.
template <int kBits>
void prefetch_next(const Block& b) {
  const std::int64_t bytes = b.steps * (kBits == 4 ? kStepBytes4 : kStepBytes8);
  for (std::int64_t at = 0; at < bytes; at += 64) {
    _mm_prefetch(b.weights + bytes + at, _MM_HINT_T0);
  }
}

template <int kBits>
void multiply_block(const Block& b, std::int64_t rows, Memory& memory) {
  using Rows = void (*)(const Block&, const std::uint8_t*, std::int64_t, Memory&);
  constexpr Rows kDirect[kMaxRows] = {
      multiply_rows<kBits, false, 1>, multiply_rows<kBits, false, 2>,
      multiply_rows<kBits, false, 3>, multiply_rows<kBits, false, 4>};
  constexpr Rows kBuffered[kMaxRows] = {
      multiply_rows<kBits, true, 1>, multiply_rows<kBits, true, 2>, multiply_rows<kBits, true, 3>,
      multiply_rows<kBits, true, 4>};
  if (kBits == 8 && rows > 1) prefetch_next<kBits>(b);
  const bool buffered = rows > kDirectRows;
  if (buffered) fill_buffer<kBits>(b, memory.weights);
  // Tiles of nearly equal height: 5 rows are 3 + 2, not 4 + 1.
  const std::int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::int64_t row = rows * tile / tiles;
    const std::int64_t height = rows * (tile + 1) / tiles - row;
    (buffered ? kBuffered : kDirect)[height - 1](b, buffered ? memory.weights : b.weights, row,
                                                 memory);
  }
}

// Sums begin with what stored codes are too large by: 2^(bits-1) + zero point for each activation.
// offsets: [rows, groups], at the group; place: of the group's scales.
template <int kBits>
void begin_group(const WeightArguments& w,
                 std::int64_t place,
                 const std::int32_t* offsets,
                 std::int64_t rows,
                 std::int32_t* sums) {
  for (std::int64_t column = 0; column < kPanel; column += 8) {
    __m256i zero = _mm256_set1_epi32(1 << (kBits - 1));
    if (w.zero_points != nullptr) {
      const void* points = w.zero_points + place + column;
      zero = _mm256_add_epi32(
          zero, _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(points))));
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      store(sums + r * kPanel + column,
            _mm256_mullo_epi32(zero, _mm256_set1_epi32(-offsets[r * w.groups])));
    }
  }
}

void end_group(const float* scales, std::int64_t rows, Memory& memory) {
  for (std::int64_t column = 0; column < kPanel; column += 8) {
    const __m256 scale = _mm256_loadu_ps(scales + column);
    for (std::int64_t r = 0; r < rows; ++r) {
      const __m256 sum = _mm256_cvtepi32_ps(load(memory.sums + r * kPanel + column));
      float* total = memory.totals + r * kPanel + column;
      _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), _mm256_mul_ps(sum, scale)));
    }
  }
}

// At most kBlockRows rows of one panel.
template <int kBits>
void multiply_panel(const IntegerArguments& a,
                    std::int64_t panel,
                    std::int64_t row,
                    std::int64_t rows) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const WeightArguments& w = a.weights;
  Memory memory;
  __builtin_memset(memory.totals, 0, static_cast<std::size_t>(rows * kPanel) * sizeof(float));
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t begin = group * w.group_steps;
    const std::int64_t end = begin + w.group_steps < w.steps ? begin + w.group_steps : w.steps;
    const std::int64_t place = (panel * w.groups + group) * kPanel;
    begin_group<kBits>(w, place, a.activation_sums + row * w.groups + group, rows, memory.sums);
    for (std::int64_t step = begin; step < end; step += kBlockSteps) {
      const Block block{w.codes + (panel * w.steps + step) * kStepBytes,
                        a.activations + row * a.activation_stride + step * kStep,
                        a.activation_stride, end - step < kBlockSteps ? end - step : kBlockSteps};
      multiply_block<kBits>(block, rows, memory);
    }
    end_group(w.scales + place, rows, memory);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    float* totals = memory.totals + r * kPanel;
    for (int c = 0; c < kPanel; ++c) {
      totals[c] *= a.activation_scales[row + r];
    }
    finish_row(a.finish, row + r, panel, totals);
  }
}

template <int kBits>
void matmul(const IntegerArguments& a) {
  const std::int64_t blocks = (a.rows + kBlockRows - 1) / kBlockRows;
  for (std::int64_t panel = a.finish.begin / kPanel; panel * kPanel < a.finish.end; ++panel) {
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t row = a.rows * block / blocks;
      multiply_panel<kBits>(a, panel, row, a.rows * (block + 1) / blocks - row);
    }
  }
}

}  // namespace

const IntegerKernels kAvx2Integer = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
