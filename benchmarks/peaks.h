// What this machine can do at most, measured by loops that do nothing else. A benchmark quotes its
// results as a share of these, taken in the same process and run.
#pragma once

#include <cstddef>
#include <string_view>

namespace qvlm::bench {

// Runs of one instruction on independent registers; 0 where the CPU lacks it.
struct ComputeLoops {
  double (*int8)(int iterations) = nullptr;  // each returns multiplications and additions done
  double (*bf16)(int iterations) = nullptr;
  std::string_view int8_name = "absent", bf16_name = "absent";
};
ComputeLoops avx512_loops();  // vpdpbusd and, with AVX512_BF16, vdpbf16ps
ComputeLoops avx2_loops();    // vpmaddubsw + vpmaddwd + vpaddd, and float vfmadd

struct Peaks {
  std::string_view int8_name, bf16_name;
  double int8_ops = 0, bf16_ops = 0;  // per second
  double read_bytes = 0;              // per second, streaming over `read_size` bytes
  std::size_t read_size = 0;
};

// The best of several short runs on `threads` threads at once. bf16 without AVX512_BF16 is the
// float loop: bfloat16 weights are then multiplied as floats.
Peaks measure_peaks(int threads, std::size_t read_size);

// Twice the last-level cache, in [256 MiB, 640 MiB]: what weights that stream from memory are
// spread over.
std::size_t streaming_size();

}  // namespace qvlm::bench
