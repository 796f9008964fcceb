// The Hadamard transform of one row, for activations on their way to codes or to bfloat16. Written
// once over vectors of the compiler and included by rows.h, like finish.h. A row is read once and
// written to memory of the caller; there a block is `order` runs of 2^k values. First each run is
// transformed by sums and differences of neighbours, of strides 1, 2, 4 and so on, with as many
// strides per pass over memory as registers hold values for; then the runs of a block are added up
// with the signs of the small matrix. The order of the float steps is the same at every level.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

inline constexpr int kMostVectors = kLanes == 16 ? 16 : 8;  // that registers hold, with signs
inline constexpr std::int64_t kChunk = kMostVectors * kLanes;

// What the last pass over a row does with a vector, and what it finds on the way: the largest
// magnitudes, as bits.
struct Ending {
  Floats factor;
  Ints largest;
};

template <bool kLast>
[[gnu::always_inline]] inline void store_result(float* to, Floats x, Ending& ending) {
  if constexpr (kLast) {
    x = x * ending.factor;
    const Ints bits = (Ints)magnitude(x);
    ending.largest = bits > ending.largest ? bits : ending.largest;
  }
  store_floats(to, x);
}

[[gnu::always_inline]] inline std::int32_t largest_lane(Ints lanes) {
  std::int32_t result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    result = lanes[lane] > result ? lanes[lane] : result;
  }
  return result;
}

// Lane i gets lane i ^ kStride.
template <int kStride, class Vector>
[[gnu::always_inline]] inline Vector exchange(Vector x) {
  constexpr int s = kStride;
  if constexpr (sizeof(Vector) == 64) {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s,
                                   8 ^ s, 9 ^ s, 10 ^ s, 11 ^ s, 12 ^ s, 13 ^ s, 14 ^ s, 15 ^ s);
  } else if constexpr (sizeof(Vector) == 32) {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s);
  } else {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s);
  }
}

// -1 in the lanes whose number has the bit kStride, else 1.
template <int kStride>
struct Signs {
  alignas(64) float lanes[16] = {};
  constexpr Signs() {
    for (int i = 0; i < 16; ++i) {
      lanes[i] = (i & kStride) != 0 ? -1.0f : 1.0f;
    }
  }
};
template <int kStride>
inline constexpr Signs<kStride> kSigns;

// Sums and differences of the lanes that are kStride apart. Products with 1 and -1 are exact, so a
// fused multiply-add is the same as a product and a sum.
template <int kStride>
[[gnu::always_inline]] inline Floats add_lanes(Floats x) {
  const Floats signs = load_floats(kSigns<kStride>.lanes);
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)x, (__m512)signs, (__m512)exchange<kStride>(x));
#else
  return x * signs + exchange<kStride>(x);
#endif
}

// All strides below `run`, which is a power of two, inside a vector.
[[gnu::always_inline]] inline Floats add_within(Floats x, std::int64_t run) {
  if (run > 1) x = add_lanes<1>(x);
  if (run > 2) x = add_lanes<2>(x);
  if constexpr (kLanes > 4) {
    if (run > 4) x = add_lanes<4>(x);
  }
  if constexpr (kLanes > 8) {
    if (run > 8) x = add_lanes<8>(x);
  }
  return x;
}

// Sums and differences of vectors, of strides kStride, 2 kStride, ... below kCount.
template <int kStride, int kCount>
[[gnu::always_inline]] inline void add_vectors(Floats (&x)[kCount]) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    if ((i & kStride) != 0) continue;
    const Floats sum = x[i] + x[i + kStride];
    x[i + kStride] = x[i] - x[i + kStride];
    x[i] = sum;
  }
  if constexpr (2 * kStride < kCount) add_vectors<2 * kStride>(x);
}

// The strides below kCount * kLanes of `count` values, whole chunks of as many.
template <int kCount, bool kLast>
[[gnu::noinline]] void transform_chunks(const float* from,
                                        float* to,
                                        std::int64_t count,
                                        Ending& result) {
  Ending ending = result;
  for (std::int64_t k = 0; k < count; k += kCount * kLanes) {
    Floats x[kCount];
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      x[i] = add_within(load_floats(from + k + i * kLanes), kLanes);
    }
    if constexpr (kCount > 1) add_vectors<1>(x);
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      store_result<kLast>(to + k + i * kLanes, x[i], ending);
    }
  }
  result = ending;
}

// The strides `stride`, 2 stride, ... below kCount * stride, in place.
template <int kCount, bool kLast>
[[gnu::noinline]] void transform_strides(float* values,
                                         std::int64_t count,
                                         std::int64_t stride,
                                         Ending& result) {
  Ending ending = result;
  for (std::int64_t first = 0; first < count; first += kCount * stride) {
    for (std::int64_t k = first; k < first + stride; k += kLanes) {
      Floats x[kCount];
#pragma GCC unroll 16
      for (int i = 0; i < kCount; ++i) {
        x[i] = load_floats(values + k + i * stride);
      }
      add_vectors<1>(x);
#pragma GCC unroll 16
      for (int i = 0; i < kCount; ++i) {
        store_result<kLast>(values + k + i * stride, x[i], ending);
      }
    }
  }
  result = ending;
}

// kLast: nothing follows, so the factor is due.
template <bool kLast>
void begin_run(const float* from, float* to, std::int64_t run, Ending& ending) {
  switch (run < kChunk ? run / kLanes : kMostVectors) {
    case 1:
      return transform_chunks<1, kLast>(from, to, run, ending);
    case 2:
      return transform_chunks<2, kLast>(from, to, run, ending);
    case 4:
      return transform_chunks<4, kLast>(from, to, run, ending);
    case 8:
      return transform_chunks<8, kLast>(from, to, run, ending);
    default:
      return transform_chunks<kMostVectors, kLast>(from, to, run, ending);
  }
}

template <bool kLast>
void continue_run(float* values, std::int64_t run, std::int64_t stride, Ending& ending) {
  switch (run / stride) {
    case 2:
      return transform_strides<2, kLast>(values, run, stride, ending);
    case 4:
      return transform_strides<4, kLast>(values, run, stride, ending);
    case 8:
      return transform_strides<8, kLast>(values, run, stride, ending);
    default:
      return transform_strides<kMostVectors, kLast>(values, run, stride, ending);
  }
}

// A run of a vector or more.
template <bool kLast>
void transform_run(const float* from, float* to, std::int64_t run, Ending& ending) {
  if (run <= kChunk) return begin_run<kLast>(from, to, run, ending);
  begin_run<false>(from, to, run, ending);
  std::int64_t stride = kChunk;
  for (; run / stride > kMostVectors; stride *= kMostVectors) {
    continue_run<false>(to, run, stride, ending);
  }
  continue_run<kLast>(to, run, stride, ending);
}

// All runs of a row, of less than a vector; up to a vector behind the row is written.
template <bool kLast>
void transform_short_runs(const RowArguments& row, Ending& ending) {
  for (std::int64_t k = 0; k < row.in; k += kLanes) {
    const Floats x = add_within(load_some(row.values + k, row.in - k), row.transform->run);
    store_result<kLast>(row.transform->result + k, x, ending);
  }
}

// Adding up runs goes by columns of 16 values, at every level.
inline constexpr int kColumns = 16;
inline constexpr int kParts = kColumns / kLanes;

// The sums of each 4 of `order` values that are `stride` apart, with any signs: bit i of an entry's
// number is that value i counts as negative.
[[gnu::always_inline]] inline void tabulate(const float* from,
                                            std::int64_t stride,
                                            std::int64_t order,
                                            float* table) {
  for (std::int64_t row = 0; row < order; row += 4, table += kSignChoices * kColumns) {
#pragma GCC unroll 4
    for (int part = 0; part < kColumns; part += kLanes) {
      const Floats a = load_floats(from + row * stride + part);
      const Floats b = load_floats(from + (row + 1) * stride + part);
      const Floats c = load_floats(from + (row + 2) * stride + part);
      const Floats d = load_floats(from + (row + 3) * stride + part);
      const Floats ab[4] = {a + b, b - a, a - b, -(a + b)};
      const Floats cd[2] = {c + d, d - c};
#pragma GCC unroll 8
      for (int i = 0; i < kSignChoices / 2; ++i) {
        const Floats sum = ab[i % 4] + cd[i / 4];
        store_floats(table + i * kColumns + part, sum);
        store_floats(table + (kSignChoices - 1 - i) * kColumns + part, -sum);
      }
    }
  }
}

// Multiplies 16 columns by the small matrix, in place: entry o is the sum of the entries that
// terms [o, order / 4] names, in units of 8 bytes.
[[gnu::always_inline]] inline void combine_columns(const TransformArguments& arguments,
                                                   float* values,
                                                   std::int64_t stride,
                                                   Ending& ending) {
  constexpr int kTurn = kLanes == 4 ? 2 : 4;  // results at a time, so that sums need not wait
  tabulate(values, stride, arguments.order, arguments.table);
  const std::int64_t groups = arguments.order / 4;
  const auto entry = [&](std::int64_t place) {
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(arguments.table) +
                                          8 * std::int64_t{arguments.terms[place]});
  };
  for (std::int64_t row = 0; row < arguments.order; row += kTurn) {
    Floats sums[kTurn * kParts];
#pragma GCC unroll 8
    for (int i = 0; i < kTurn * kParts; ++i) {
      sums[i] = load_floats(entry((row + i / kParts) * groups) + i % kParts * kLanes);
    }
    for (std::int64_t group = 1; group < groups; ++group) {
#pragma GCC unroll 8
      for (int i = 0; i < kTurn * kParts; ++i) {
        const float* from = entry((row + i / kParts) * groups + group) + i % kParts * kLanes;
        sums[i] = sums[i] + load_floats(from);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kTurn * kParts; ++i) {
      float* to = values + (row + i / kParts) * stride + i % kParts * kLanes;
      store_result<true>(to, sums[i], ending);
    }
  }
}

// A block whose runs are shorter than 16, by way of a copy with runs of 16.
[[gnu::noinline]] void combine_short_runs(const TransformArguments& arguments,
                                          float* values,
                                          Ending& ending) {
  alignas(64) float copy[kMostOrder * kColumns] = {};
  for (std::int64_t i = 0; i < arguments.order * arguments.run; ++i) {
    copy[i / arguments.run * kColumns + i % arguments.run] = values[i];
  }
  combine_columns(arguments, copy, kColumns, ending);
  for (std::int64_t i = 0; i < arguments.order * arguments.run; ++i) {
    values[i] = copy[i / arguments.run * kColumns + i % arguments.run];
  }
}

[[gnu::noinline]] void combine_runs(const RowArguments& row, Ending& result) {
  const TransformArguments& arguments = *row.transform;
  Ending ending = result;
  for (std::int64_t block = 0; block < row.in; block += arguments.order * arguments.run) {
    float* values = arguments.result + block;
    if (arguments.run < kColumns) {
      combine_short_runs(arguments, values, ending);
      continue;
    }
    for (std::int64_t k = 0; k < arguments.run; k += kColumns) {
      combine_columns(arguments, values + k, arguments.run, ending);
    }
  }
  result = ending;
}

// Which of two NaN a sum keeps is not the same at every level.
[[gnu::noinline]] void make_nan_equal(float* values, std::int64_t in) {
  for (std::int64_t k = 0; k < in; ++k) {
    if (values[k] != values[k]) values[k] = __builtin_nanf("");
  }
}

// Transforms a row; returns the largest magnitude of the result, see largest_magnitude().
[[gnu::noinline]] std::int32_t transform_one(const RowArguments& row) {
  const TransformArguments& arguments = *row.transform;
  const bool combines = arguments.order > 1;
  Ending ending = {all(arguments.factor), {}};
  if (arguments.run < kLanes) {
    (combines ? transform_short_runs<false> : transform_short_runs<true>)(row, ending);
  } else {
    const auto transform = combines ? transform_run<false> : transform_run<true>;
    for (std::int64_t k = 0; k < row.in; k += arguments.run) {
      transform(row.values + k, arguments.result + k, arguments.run, ending);
    }
  }
  if (combines) combine_runs(row, ending);
  const std::int32_t largest = largest_lane(ending.largest);
  if (largest > 0x7f800000) make_nan_equal(arguments.result, row.in);
  return largest;
}

}  // namespace
}  // namespace qvlm::kernels
