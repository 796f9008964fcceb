// Decode attention as the levels see it: arguments and one function per format of the cache. Level
// files may include this header (see kernel_table.h); everybody else includes attention.h.
#pragma once

#include <cstdint>

namespace qvlm::kernels {

// Cached rows are padded with zeros to a multiple of this many elements, so that kernels have no
// tails.
inline constexpr std::int64_t kRowMultiple = 16;

// Two codes of 4 bits, 0 to 15, that stand for -8 to 7: the one before in the low bits.
struct CodePair {
  std::uint8_t bits;
};

// Rows of one head, one per position: float, std::uint16_t or std::int8_t [positions, stride], or
// CodePair [positions, stride / 2].
struct CachedRows {
  const void* rows;
  const float* scales;  // [positions], of codes only: value = scale * code
};

// The query heads that share one key and value head: out = softmax(query * keys^T) * values.
struct AttentionArguments {
  CachedRows keys, values;
  std::int64_t positions;  // at least 1
  std::int64_t stride;     // elements of a row: head_dim, padded
  const float* query;      // [queries, stride], already divided by sqrt(head_dim)
  std::int64_t queries;
  float* scores;              // scratch: [queries, score_stride]
  std::int64_t score_stride;  // positions, rounded up to kRowMultiple or more
  float* out;                 // [queries, stride]
};

struct AttentionKernels {
  void (*float32)(const AttentionArguments& arguments);
  void (*bfloat16)(const AttentionArguments& arguments);
  void (*int8)(const AttentionArguments& arguments);
  void (*int4)(const AttentionArguments& arguments);
};

extern const AttentionKernels kScalarAttention;
#if defined(__x86_64__)
extern const AttentionKernels kAvx2Attention, kAvx512VnniAttention;
#endif

}  // namespace qvlm::kernels
