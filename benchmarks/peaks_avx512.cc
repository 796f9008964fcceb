// Compiled with the flags of AVX-512 VNNI and BF16; nothing here runs before the CPU was asked.
#include "peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qvlm::bench {
#if defined(__x86_64__)
namespace {

// 24 accumulators hide the latency of any of these instructions. The loops over them must be
// unrolled: an array that is indexed at run time lives in memory.
constexpr int kAccumulators = 24;

double run_vpdpbusd(int iterations) {
  __m512i sums[kAccumulators];
#pragma GCC unroll 24
  for (int j = 0; j < kAccumulators; ++j)
    sums[j] = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1), twos = _mm512_set1_epi8(2);
  for (int i = 0; i < iterations; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < kAccumulators; ++j) {
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(sums[j]) : "v"(ones), "v"(twos));
    }
  }
  return 2.0 * 64 * kAccumulators * iterations;
}

double run_vdpbf16ps(int iterations) {
  __m512 sums[kAccumulators];
#pragma GCC unroll 24
  for (int j = 0; j < kAccumulators; ++j)
    sums[j] = _mm512_setzero_ps();
  const __m512i ones = _mm512_set1_epi16(0x3f80);
  for (int i = 0; i < iterations; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < kAccumulators; ++j) {
      asm volatile("vdpbf16ps %1, %1, %0" : "+v"(sums[j]) : "v"(ones));
    }
  }
  return 2.0 * 32 * kAccumulators * iterations;
}

}  // namespace
#endif

ComputeLoops avx512_loops() {
  ComputeLoops loops;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni")) {
    loops.int8 = run_vpdpbusd;
    loops.int8_name = "vpdpbusd zmm";
  }
  if (__builtin_cpu_supports("avx512bf16")) {
    loops.bf16 = run_vdpbf16ps;
    loops.bf16_name = "vdpbf16ps zmm";
  }
#endif
  return loops;
}

}  // namespace qvlm::bench
