// Google Benchmark over the formats and shapes of qvlm::kernels. Time, operations and bytes stand
// beside the peaks that this process measures at its start.
//
//   kernels_bench --benchmark_filter='w4a8/K:4096/N:4096' [--benchmark_format=json]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

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

// Widths of rows that a Hadamard transform goes over on their way to codes.
constexpr std::int64_t kTransformed[] = {512, 4096, 5120, 11008, 13824, 14336};

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Plain and transformed rows take turns, so that their ratio is of the same moments.
void run_transform(benchmark::State& state, std::int64_t in) {
  constexpr std::int64_t kCodedRows = 16;
  const kernels::Hadamard transform = kernels::make_hadamard(in);
  std::vector<float> values(static_cast<std::size_t>(kCodedRows * in));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i * 7919 % 2003) - 1001.0f;
  kernels::QuantizedRows rows;
  rows.resize(kCodedRows, in, 0);
  const auto time = [&](const kernels::Hadamard* applied) {
    const auto start = std::chrono::steady_clock::now();
    kernels::quantize_rows(values.data(), {.bits = 4, .transform = applied}, 0, kCodedRows, rows);
    const std::chrono::duration<double, std::nano> passed =
        std::chrono::steady_clock::now() - start;
    return passed.count() / static_cast<double>(values.size());
  };
  std::vector<double> plain, transformed;
  for (auto _ : state) {
    plain.push_back(time(nullptr));
    transformed.push_back(time(&transform));
  }
  state.counters["ns/value"] = median(plain);
  state.counters["ns/value,transformed"] = median(transformed);
  state.counters["ratio"] = median(transformed) / median(plain);
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
  for (const std::int64_t in : kTransformed)
    benchmark::RegisterBenchmark(("transform/K:" + std::to_string(in)).c_str(), run_transform, in);
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
