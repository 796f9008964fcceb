// Decode attention of one layer of a 7B decoder (head_dim 128, 32 query heads) on caches that lie
// in memory, in every format, interleaved. Prints the best of several rounds and its share of a
// streaming read that the same process measures.   attention_bench [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "kernels/attention.h"
#include "peaks.h"

namespace qvlm::bench {
namespace {

using kernels::AttentionArguments;

constexpr std::int64_t kHeadDim = 128, kHeads = 32;
constexpr int kRounds = 9;

struct Format {
  const char* name;
  std::int64_t bits;  // of an element
  void (*kernel)(const AttentionArguments&);
};

// Layers of zeros and scales of one: as many as do not fit any cache.
struct Cache {
  Cache(std::int64_t kv_heads, std::int64_t positions)
      : head_bytes(4 * kHeadDim * positions),
        layers(std::max<std::int64_t>(
            1, static_cast<std::int64_t>(streaming_size()) / (2 * head_bytes * kv_heads))),
        rows(static_cast<std::size_t>(2 * layers * kv_heads * head_bytes), 0),
        scales(static_cast<std::size_t>(positions), 1.0f) {}

  std::int64_t head_bytes;  // as float32; the other formats have more layers in the same memory
  std::int64_t layers;
  std::vector<char> rows;
  std::vector<float> scales;
};

// Seconds of one layer.
double run(const Format& format,
           const Cache& cache,
           std::int64_t kv_heads,
           std::int64_t positions,
           int threads) {
  const std::int64_t group = kHeads / kv_heads, size = positions * kHeadDim * format.bits / 8;
  const std::int64_t layers = cache.layers * (32 / format.bits);
  const auto start = std::chrono::steady_clock::now();
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t head = 0; head < layers * kv_heads; ++head) {
    std::vector<float> query(static_cast<std::size_t>(group * kHeadDim), 0.01f), out(query);
    std::vector<float> scores(static_cast<std::size_t>(group * positions));
    const float* scales = format.bits <= 8 ? cache.scales.data() : nullptr;
    const char* keys = cache.rows.data() + 2 * head * size;
    format.kernel({{keys, scales},
                   {keys + size, scales},
                   positions,
                   kHeadDim,
                   query.data(),
                   group,
                   scores.data(),
                   positions,
                   out.data()});
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  return time.count() / static_cast<double>(layers);
}

void compare(std::int64_t kv_heads, std::int64_t positions, const Peaks& peaks, int threads) {
  const kernels::AttentionKernels& all = kernels::attention_kernels(kernels::cpu_level());
  const Format formats[] = {{"float32", 32, all.float32},
                            {"bf16", 16, all.bfloat16},
                            {"int8", 8, all.int8},
                            {"int4", 4, all.int4}};
  constexpr int kFormats = std::size(formats);
  const Cache cache(kv_heads, positions);
  double best[kFormats] = {1e9, 1e9, 1e9, 1e9};
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kFormats; ++i)
      best[i] = std::min(best[i], run(formats[i], cache, kv_heads, positions, threads));
  }
  for (int i = 0; i < kFormats; ++i) {
    const std::int64_t scale = formats[i].bits <= 8 ? 4 : 0;
    const double bytes = 2.0 * static_cast<double>(kv_heads * positions) *
                         static_cast<double>(kHeadDim * formats[i].bits / 8 + scale);
    std::printf("%8lld %9lld  %-7s %8.3f ms %7.2f MB %6.1f GB/s %5.0f %%read %5.2fx\n",
                static_cast<long long>(kv_heads), static_cast<long long>(positions),
                formats[i].name, best[i] * 1e3, bytes / 1e6, bytes / best[i] / 1e9,
                100 * bytes / best[i] / peaks.read_bytes, best[0] / best[i]);
  }
}

}  // namespace
}  // namespace qvlm::bench

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  const qvlm::bench::Peaks peaks =
      qvlm::bench::measure_peaks(threads, qvlm::bench::streaming_size());
  std::printf("%d threads, streaming read %.1f GB/s\n", threads, peaks.read_bytes / 1e9);
  std::printf(
      "kv heads positions  format       time      read    speed   share  against float32\n");
  for (const std::int64_t kv_heads : {32, 8}) {
    for (const std::int64_t positions : {640, 4096})
      qvlm::bench::compare(kv_heads, positions, peaks, threads);
  }
}
