// Compiled with the flags of AVX2 and FMA; nothing here runs before the CPU was asked.
#include "peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qvlm::bench {
#if defined(__x86_64__)
namespace {

constexpr int kAccumulators = 12;  // of 16 registers

// The three instructions that stand for vpdpbusd where there is none.
double run_vpmaddubsw(int iterations) {
  __m256i sums[kAccumulators];
#pragma GCC unroll 12
  for (int j = 0; j < kAccumulators; ++j)
    sums[j] = _mm256_setzero_si256();
  const __m256i bytes = _mm256_set1_epi8(1), words = _mm256_set1_epi16(1);
  for (int i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kAccumulators; ++j) {
      __m256i products;
      asm volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
                   : "+x"(sums[j]), "=&x"(products)
                   : "x"(bytes), "x"(words));
    }
  }
  return 2.0 * 32 * kAccumulators * iterations;
}

double run_vfmadd(int iterations) {
  __m256 sums[kAccumulators];
#pragma GCC unroll 12
  for (int j = 0; j < kAccumulators; ++j)
    sums[j] = _mm256_setzero_ps();
  const __m256 ones = _mm256_set1_ps(1);
  for (int i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kAccumulators; ++j) {
      asm volatile("vfmadd231ps %1, %1, %0" : "+x"(sums[j]) : "x"(ones));
    }
  }
  return 2.0 * 8 * kAccumulators * iterations;
}

}  // namespace
#endif

ComputeLoops avx2_loops() {
  ComputeLoops loops;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    loops = {.int8 = run_vpmaddubsw,
             .bf16 = run_vfmadd,
             .int8_name = "vpmaddubsw + vpmaddwd + vpaddd ymm",
             .bf16_name = "vfmadd231ps ymm"};
  }
#endif
  return loops;
}

}  // namespace qvlm::bench
