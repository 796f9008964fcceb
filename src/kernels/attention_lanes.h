// Decode attention over vectors of the compiler, compiled by each level's attention.cc. Every key
// and value row is read once for all queries of its head: in decoding nothing else has a price, as
// the cache comes from memory.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/attention_table.h"
#include "kernels/finish.h"

namespace qvlm::kernels {
namespace {

typedef float Floats4 __attribute__((vector_size(16)));

// Queries that share the read of a row; more would not leave their sums in registers.
inline constexpr int kTile = kLanes == 16 ? 4 : 2;
inline constexpr int kRows = 4;     // keys that are scored together
inline constexpr int kVectors = 4;  // of the outputs that are summed together
inline constexpr std::int64_t kAhead = 16;
inline constexpr std::int64_t kBlock = 32;  // values that are summed before the next outputs

// Where element k of a row lies; of pairs an even one.
template <typename Row>
[[gnu::always_inline]] inline const Row* element(const Row* row, std::int64_t k) {
  return row + k;
}

[[gnu::always_inline]] inline const CodePair* element(const CodePair* row, std::int64_t k) {
  return row + k / 2;
}

template <typename Row>
[[gnu::always_inline]] inline void prefetch(const Row* from, std::int64_t count) {
  const char* const end = reinterpret_cast<const char*>(element(from, count));
  for (const char* byte = reinterpret_cast<const char*>(from); byte < end; byte += 64) {
    __builtin_prefetch(byte);
  }
}

[[gnu::always_inline]] inline Floats widen(const float* from) {
  return load_floats(from);
}

[[gnu::always_inline]] inline Floats widen(const std::uint16_t* from) {
#if defined(__AVX512F__)
  const Ints halves =
      (Ints)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#else
  Halves narrow;
  __builtin_memcpy(&narrow, from, sizeof narrow);
  const Ints halves = __builtin_convertvector(narrow, Ints);
#endif
  return (Floats)(halves << 16);
}

[[gnu::always_inline]] inline Floats widen(const std::int8_t* from) {
  // gcc 12 widens bytes one by one if left to __builtin_convertvector.
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
#else
  return Floats{static_cast<float>(from[0]), static_cast<float>(from[1]),
                static_cast<float>(from[2]), static_cast<float>(from[3])};
#endif
}

[[gnu::always_inline]] inline Floats widen(const CodePair* from) {
#if defined(__AVX2__)
  std::uint64_t pairs = 0;
  __builtin_memcpy(&pairs, from, kLanes / 2);
  const __m128i mask = _mm_set1_epi8(15);
  const __m128i both = _mm_cvtsi64_si128(static_cast<long long>(pairs));
  const __m128i even = _mm_and_si128(both, mask);
  const __m128i odd = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
  const __m128i bytes = _mm_sub_epi8(_mm_unpacklo_epi8(even, odd), _mm_set1_epi8(8));
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
#else
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
#endif
#else
  return Floats{
      static_cast<float>((from[0].bits & 15) - 8), static_cast<float>((from[0].bits >> 4) - 8),
      static_cast<float>((from[1].bits & 15) - 8), static_cast<float>((from[1].bits >> 4) - 8)};
#endif
}

[[gnu::always_inline]] inline Floats4 fold(Floats x) {
#if defined(__AVX512F__)
  typedef float Floats8 __attribute__((vector_size(32)));
  const Floats8 half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) +
         __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX2__)
  return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
#else
  return x;
#endif
}

// The sums of the lanes of four vectors.
[[gnu::always_inline]] inline Floats4 sum_lanes(const Floats* x) {
  const Floats4 a = fold(x[0]), b = fold(x[1]), c = fold(x[2]), d = fold(x[3]);
  const Floats4 ab =
      __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Floats4 cd =
      __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// Scores of queries [query, query + kQueries) for the four keys from `position` on. Keys behind the
// last one are replaced by the last.
template <typename Row, int kQueries>
void score_keys(const AttentionArguments& a, std::int64_t query, std::int64_t position) {
  const Row* keys[kRows];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
    const std::int64_t last = a.positions - 1;
    keys[i] = element(static_cast<const Row*>(a.keys.rows),
                      (position + i < last ? position + i : last) * a.stride);
  }
  Floats sums[kQueries][kRows] = {};
  for (std::int64_t k = 0; k < a.stride; k += kLanes) {
    Floats key[kRows];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      key[i] = widen(element(keys[i], k));
    }
#pragma GCC unroll 4
    for (int j = 0; j < kQueries; ++j) {
      const Floats x = load_floats(a.query + (query + j) * a.stride + k);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        sums[j][i] += x * key[i];
      }
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
    const Floats4 scores = sum_lanes(sums[j]);
    float* to = a.scores + (query + j) * a.score_stride + position;
    for (int i = 0; i < kRows && position + i < a.positions; ++i) {
      to[i] = a.keys.scales == nullptr ? scores[i] : scores[i] * a.keys.scales[position + i];
    }
  }
}

// Turns the scores of a query into weights of sum 1, and takes the scales of the values into them.
[[gnu::always_inline]] inline void weigh(const AttentionArguments& a, float* scores) {
  const std::int64_t padded = (a.positions + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t p = a.positions; p < padded; ++p) {
    scores[p] = -__builtin_inff();
  }
  Floats largest = load_floats(scores);
  for (std::int64_t p = 0; p < padded; p += kLanes) {
    const Floats x = load_floats(scores + p);
    largest = x > largest ? x : largest;  // a NaN may stay out: its own weight will be NaN
  }
  float top = largest[0];
  for (int lane = 1; lane < kLanes; ++lane) {
    top = largest[lane] > top ? largest[lane] : top;
  }
  Floats sums = {};
  for (std::int64_t p = 0; p < padded; p += kLanes) {
    const Floats weight = exponential(load_floats(scores + p) - top);
    store_floats(scores + p, weight);
    sums += weight;
  }
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) {
    sum += sums[lane];
  }
  const float share = 1.0f / sum;
  for (std::int64_t p = 0; p < padded; p += kLanes) {
    store_floats(scores + p, load_floats(scores + p) * share);
  }
  for (std::int64_t p = 0; a.values.scales != nullptr && p < a.positions; ++p) {
    scores[p] *= a.values.scales[p];
  }
}

// Adds values [begin, end) to outputs [k, k + kCount * kLanes) of some queries.
template <typename Row, int kQueries, int kCount>
[[gnu::always_inline]] inline void add_values(const AttentionArguments& a,
                                              std::int64_t query,
                                              std::int64_t begin,
                                              std::int64_t end,
                                              std::int64_t k) {
  const Row* values = element(static_cast<const Row*>(a.values.rows), k);
  const float* weights = a.scores + query * a.score_stride;
  float* out = a.out + query * a.stride + k;
  Floats sums[kQueries][kCount];
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      sums[j][i] = begin == 0 ? Floats{} : load_floats(out + j * a.stride + i * kLanes);
    }
  }
  for (std::int64_t p = begin; p < end; ++p) {
    if (query == 0) prefetch(element(values, (p + kAhead) * a.stride), kCount * kLanes);
    Floats value[kCount];
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      value[i] = widen(element(values, p * a.stride + i * kLanes));
    }
#pragma GCC unroll 4
    for (int j = 0; j < kQueries; ++j) {
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) {
        sums[j][i] += weights[j * a.score_stride + p] * value[i];
      }
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      store_floats(out + j * a.stride + i * kLanes, sums[j][i]);
    }
  }
}

template <typename Row, int kQueries>
void add_tile(const AttentionArguments& a,
              std::int64_t query,
              std::int64_t begin,
              std::int64_t end) {
  std::int64_t k = 0;
  for (; k + kVectors * kLanes <= a.stride; k += kVectors * kLanes) {
    add_values<Row, kQueries, kVectors>(a, query, begin, end, k);
  }
  for (; k < a.stride; k += kLanes) {
    add_values<Row, kQueries, 1>(a, query, begin, end, k);
  }
}

template <typename Row>
void attend(const AttentionArguments& a) {
  const std::int64_t tiled = a.queries / kTile * kTile;
  for (std::int64_t position = 0; position < a.positions; position += kRows) {
    prefetch(element(static_cast<const Row*>(a.keys.rows), (position + kAhead) * a.stride),
             kRows * a.stride);
    for (std::int64_t query = 0; query < tiled; query += kTile) {
      score_keys<Row, kTile>(a, query, position);
    }
    for (std::int64_t query = tiled; query < a.queries; ++query) {
      score_keys<Row, 1>(a, query, position);
    }
  }
  for (std::int64_t query = 0; query < a.queries; ++query) {
    weigh(a, a.scores + query * a.score_stride);
  }
  for (std::int64_t begin = 0; begin < a.positions; begin += kBlock) {
    const std::int64_t end = begin + kBlock < a.positions ? begin + kBlock : a.positions;
    for (std::int64_t query = 0; query < tiled; query += kTile) {
      add_tile<Row, kTile>(a, query, begin, end);
    }
    for (std::int64_t query = tiled; query < a.queries; ++query) {
      add_tile<Row, 1>(a, query, begin, end);
    }
  }
}

}  // namespace
}  // namespace qvlm::kernels
