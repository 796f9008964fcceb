#include "peaks.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>

namespace qvlm::bench {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Operations per second of `loop` on all threads at once: the best of some runs of a few
// milliseconds, since other work on the machine can only slow a run down.
double best_rate(double (*loop)(int), int threads) {
  constexpr int kIterations = 200'000, kRuns = 12;
  double best = 0;
  for (int run = 0; loop != nullptr && run < kRuns; ++run) {
    double operations = 0;
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : operations)
    operations += loop(kIterations);
    best = std::max(best, operations / seconds_since(start));
  }
  return best;
}

// Lowered by the compiler to the vectors of the baseline; wide enough for memory, not for L1.
using Lanes = std::uint64_t __attribute__((vector_size(64)));

std::uint64_t read_all(const Lanes* lanes, std::size_t count) {
  Lanes sums[4] = {};
  for (std::size_t i = 0; i + 4 <= count; i += 4) {
    for (int j = 0; j < 4; ++j)
      sums[j] ^= lanes[i + j];
  }
  const Lanes sum = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  return sum[0] ^ sum[3] ^ sum[7];
}

// Huge pages where the system grants them: the limit is that of the machine, not of 4 KiB pages.
double best_read_rate(int threads, std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for the streaming read");
  madvise(memory, bytes, MADV_HUGEPAGE);
  std::fill_n(static_cast<std::uint64_t*>(memory), bytes / sizeof(std::uint64_t), 1);
  const std::size_t share = bytes / sizeof(Lanes) / threads / 4 * 4;
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    std::uint64_t sum = 0;
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel for num_threads(threads) schedule(static) reduction(^ : sum)
    for (int thread = 0; thread < threads; ++thread) {
      sum ^= read_all(static_cast<const Lanes*>(memory) + thread * share, share);
    }
    const double seconds = seconds_since(start);
    asm volatile("" : : "r"(sum));  // without a use the loop would go
    best = std::max(best, static_cast<double>(share * threads * sizeof(Lanes)) / seconds);
  }
  munmap(memory, bytes);
  return best;
}

}  // namespace

Peaks measure_peaks(int threads, std::size_t read_size) {
  ComputeLoops loops = avx512_loops();
  const ComputeLoops narrow = avx2_loops();
  if (loops.int8 == nullptr) {
    loops.int8 = narrow.int8;
    loops.int8_name = narrow.int8_name;
  }
  if (loops.bf16 == nullptr) {
    loops.bf16 = narrow.bf16;
    loops.bf16_name = narrow.bf16_name;
  }
  return {.int8_name = loops.int8_name,
          .bf16_name = loops.bf16_name,
          .int8_ops = best_rate(loops.int8, threads),
          .bf16_ops = best_rate(loops.bf16, threads),
          .read_bytes = best_read_rate(threads, read_size),
          .read_size = read_size};
}

std::size_t streaming_size() {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return std::clamp(2 * static_cast<std::size_t>(std::max(cache, 0L)), 256 * kMiB, 640 * kMiB);
}

}  // namespace qvlm::bench
