// Google Benchmark over the formats and shapes of qvlm::kernels. Time, operations and bytes stand
// beside the peaks that this process measures at its start.
//
//   kernels_bench --benchmark_filter='w4a8/K:4096/N:4096' [--benchmark_format=json]
#include <benchmark/benchmark.h>

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "peaks.h"
#include "product.h"

namespace qvlm::bench {
namespace {

struct Shape {
  std::int64_t in, out;
};
// A 7B decoder's, and the bundled reference model's.
constexpr Shape kShapes[] = {{4096, 4096}, {4096, 11008}, {11008, 4096}, {256, 512}, {512, 256}};
constexpr std::int64_t kRows[] = {1, 8, 64, 256, 640};
constexpr int kMaxThreads = 2;
constexpr std::int64_t kStreamedRows = 8;  // up to here weights are found in memory
constexpr std::int64_t kStreamedSize = std::int64_t{1}
                                       << 20;  // of weights; smaller models fit a cache

// Peaks by thread count; index 0 is one thread.
std::array<Peaks, kMaxThreads>& peaks() {
  static std::array<Peaks, kMaxThreads> measured;
  return measured;
}

// The weights of one format and shape are made once for all its benchmarks, which run in a row.
const RotatedWeights& weights_for(const Format& format, Shape shape) {
  static std::optional<RotatedWeights> weights;
  if (!weights || weights->format.name != format.name || weights->copies[0].in != shape.in ||
      weights->copies[0].out != shape.out) {
    weights.reset();
    const bool streams = shape.in * shape.out > kStreamedSize;
    weights.emplace(format, shape.in, shape.out, streams ? streaming_size() : 0);
  }
  return *weights;
}

void run(
    benchmark::State& state, const Format& format, Shape shape, std::int64_t rows, int threads) {
  const RotatedWeights& weights = weights_for(format, shape);
  Product product(weights, rows, threads, rows <= kStreamedRows ? weights.copies.size() : 1);
  product.run();
  for (auto _ : state)
    product.run();
  const Peaks& peak = peaks()[threads - 1];
  const double operations = 2.0 * rows * shape.in * shape.out;
  const double best = format.activation_bits == 16 ? peak.bf16_ops : peak.int8_ops;
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  const auto bytes = static_cast<double>(weights.bytes());
  state.counters["GF/s"] = rate(operations * 1e-9);
  state.counters["GB/s"] = rate(bytes * 1e-9);
  if (best > 0) state.counters["%compute"] = rate(100 * operations / best);
  state.counters["%read"] = rate(100 * bytes / peak.read_bytes);
}

void measure_all_peaks(int threads) {
  for (int count = 1; count <= threads; ++count) {
    const Peaks& peak = peaks()[count - 1] = measure_peaks(count, streaming_size());
    std::array<char, 256> text;
    std::snprintf(text.data(), text.size(),
                  "%s %.0f GOPS, %s %.0f GFLOP/s, read of %zu MiB %.1f GB/s", peak.int8_name.data(),
                  peak.int8_ops * 1e-9, peak.bf16_name.data(), peak.bf16_ops * 1e-9,
                  peak.read_size >> 20, peak.read_bytes * 1e-9);
    benchmark::AddCustomContext("peaks, " + std::to_string(count) + " threads", text.data());
  }
  benchmark::AddCustomContext("CPU level",
                              std::string(kernels::cpu_level_name(kernels::cpu_level())));
}

void register_all(int threads) {
  for (const Format& format : formats()) {
    for (const Shape shape : kShapes) {
      for (const std::int64_t rows : kRows) {
        for (int count = 1; count <= threads; ++count) {
          const std::string name = std::string(format.name) + "/K:" + std::to_string(shape.in) +
                                   "/N:" + std::to_string(shape.out) +
                                   "/M:" + std::to_string(rows) +
                                   "/threads:" + std::to_string(count);
          benchmark::RegisterBenchmark(name.c_str(), run, format, shape, rows, count)
              ->UseRealTime();
        }
      }
    }
  }
}

}  // namespace
}  // namespace qvlm::bench

int main(int argc, char** argv) {
  const int threads = static_cast<int>(std::thread::hardware_concurrency()) > 1 ? 2 : 1;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  qvlm::bench::measure_all_peaks(threads);
  qvlm::bench::register_all(threads);
  benchmark::RunSpecifiedBenchmarks();
}
