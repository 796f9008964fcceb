#include "kernels/dispatch.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/layout.h"

namespace qvlm::kernels {
namespace {

void check(bool condition, const char* text) {
  if (!condition) throw std::invalid_argument(text);
}

void check_matmul(const PackedWeights& weights,
                  const QuantizedRows& activations,
                  std::int64_t begin,
                  std::int64_t end,
                  const float* out,
                  std::int64_t stride) {
  check(weights.out > 0 && weights.in > 0, "[matmul] weights: expected packed ones, got none");
  check(weights.bits == 4 || weights.bits == 8, "[matmul] weights: expected 4 or 8 bits");
  check(activations.in == weights.in, "[matmul] activations and weights differ in `in`");
  check(
      activations.rows >= 0 &&
          activations.codes.size() == static_cast<std::size_t>(activations.rows * activations.in) &&
          activations.scales.size() == static_cast<std::size_t>(activations.rows),
      "[matmul] activations: expected rows * in codes and rows scales");
  check(0 <= begin && begin <= end && end <= weights.out,
        "[matmul] expected 0 <= begin <= end <= out");
  check(activations.rows <= 1 || stride >= end, "[matmul] stride: expected at least `end`");
  check(out != nullptr || activations.rows == 0 || begin == end, "[matmul] out is null");
}

// Memory that a thread keeps from call to call.
struct Scratch {
  std::vector<std::int8_t> codes;
  std::vector<std::int32_t> sums;
};

// The codes with rows of 8 * steps, which the kernels read in words of 4.
const std::int8_t* padded_codes(const QuantizedRows& activations,
                                std::int64_t steps,
                                std::vector<std::int8_t>& scratch) {
  const std::int64_t width = steps * kStep;
  if (width == activations.in) return activations.codes.data();
  scratch.assign(static_cast<std::size_t>(activations.rows * width), 0);
  for (std::int64_t row = 0; row < activations.rows; ++row) {
    std::copy_n(activations.codes.data() + row * activations.in, activations.in,
                scratch.data() + row * width);
  }
  return scratch.data();
}

}  // namespace

const KernelTable& kernel_table(CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512Vnni) return kAvx512VnniTable;
  if (level == CpuLevel::kAvx2) return kAvx2Table;
#endif
  (void)level;
  return kScalarTable;
}

void quantize_rows_with(const KernelTable& table,
                        const float* values,
                        std::int64_t rows,
                        std::int64_t in,
                        int bits,
                        float clip_ratio,
                        QuantizedRows& result) {
  check(rows >= 0 && in > 0, "[quantize_rows] expected rows >= 0 and in > 0");
  check(bits >= 2 && bits <= 8, "[quantize_rows] expected 2 to 8 bits");
  check(clip_ratio > 0.0f && clip_ratio <= 1.0f, "[quantize_rows] expected 0 < clip_ratio <= 1");
  check(values != nullptr || rows == 0, "[quantize_rows] values is null");
  result.rows = rows;
  result.in = in;
  result.codes.resize(static_cast<std::size_t>(rows * in));
  result.scales.resize(static_cast<std::size_t>(rows));
  const float half_range = static_cast<float>((1 << bits) - 1) / 2.0f;
  const float low = static_cast<float>(-(1 << (bits - 1)));
  for (std::int64_t row = 0; row < rows; ++row) {
    table.quantize_row(values + row * in, in, clip_ratio, half_range, low, -low - 1.0f,
                       result.codes.data() + row * in, result.scales.data() + row);
  }
}

void matmul_with(const KernelTable& table,
                 const PackedWeights& weights,
                 const QuantizedRows& activations,
                 const float* bias,
                 std::int64_t begin,
                 std::int64_t end,
                 float* out,
                 std::int64_t stride) {
  check_matmul(weights, activations, begin, end, out, stride);
  if (activations.rows == 0 || begin == end) return;
  static thread_local Scratch scratch;
  MatmulArguments arguments;
  arguments.codes = weights.codes.data();
  arguments.scales = weights.scales.data();
  arguments.steps = (weights.in + kStep - 1) / kStep;
  arguments.groups = group_count(weights);
  arguments.group_steps = arguments.groups == 1 ? arguments.steps : weights.group_size / kStep;
  arguments.activations = padded_codes(activations, arguments.steps, scratch.codes);
  arguments.activation_scales = activations.scales.data();
  scratch.sums.resize(static_cast<std::size_t>(activations.rows * arguments.groups));
  table.group_sums(arguments.activations, activations.rows, arguments.steps, arguments.group_steps,
                   scratch.sums.data());
  arguments.activation_sums = scratch.sums.data();
  arguments.rows = activations.rows;
  arguments.bias = bias;
  arguments.begin = begin;
  arguments.end = end;
  arguments.out = out;
  arguments.stride = stride;
  (weights.bits == 4 ? table.matmul_w4_a8 : table.matmul_w8_a8)(arguments);
}

void quantize_rows(const float* values,
                   std::int64_t rows,
                   std::int64_t in,
                   int bits,
                   float clip_ratio,
                   QuantizedRows& result) {
  quantize_rows_with(kernel_table(cpu_level()), values, rows, in, bits, clip_ratio, result);
}

void matmul(const PackedWeights& weights,
            const QuantizedRows& activations,
            const float* bias,
            std::int64_t begin,
            std::int64_t end,
            float* out,
            std::int64_t stride) {
  matmul_with(kernel_table(cpu_level()), weights, activations, bias, begin, end, out, stride);
}

}  // namespace qvlm::kernels
