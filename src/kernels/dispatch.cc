#include "kernels/dispatch.h"

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>

#include "kernels/hadamard.h"
#include "kernels/scratch.h"

namespace qvlm::kernels {
namespace {

constexpr KernelTable kScalarTable{"scalar", kScalarRows, kScalarInteger, kScalarBf16};
#if defined(__x86_64__)
constexpr KernelTable kAvx2Table{"avx2", kAvx2Rows, kAvx2Integer, kAvx2Bf16};
constexpr KernelTable kAvx512VnniTable{"avx512vnni", kAvx512VnniRows, kAvx512VnniInteger,
                                       kAvx512VnniBf16};
constexpr KernelTable kAvx512VnniDotTable{"avx512vnni", kAvx512VnniRows, kAvx512VnniInteger,
                                          kAvx512VnniBf16Dot};

// vdpbf16ps does twice the products of a float32 multiply-add. AMD's cores start one per cycle;
// Intel's take so long for it that multiply-add, two per cycle, has twice its rate.
bool multiplies_bf16_fast() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
}
#endif

void check(bool condition, const char* text) {
  if (!condition) throw std::invalid_argument(text);
}

std::int64_t group_count(std::int64_t in, std::int64_t group_size) {
  return group_size == 0 ? 1 : (in + group_size - 1) / group_size;
}

// Groups along a row, as long as the row where there is one only.
std::int64_t group_length(std::int64_t in, std::int64_t group_size) {
  const std::int64_t whole = (in + kStep - 1) / kStep * kStep;
  return group_size == 0 || group_size > whole ? whole : group_size;
}

void check_sizes(std::int64_t rows, std::int64_t in, std::int64_t group_size) {
  check(rows >= 0 && in > 0, "[activations] expected rows >= 0 and in > 0");
  check(group_size >= 0 && group_size % kStep == 0,
        "[activations] expected a group size that is 0 or a multiple of 8");
}

void check_range(const float* values, std::int64_t begin, std::int64_t end, std::int64_t rows) {
  check(0 <= begin && begin <= end && end <= rows,
        "[activations] expected 0 <= begin <= end <= rows");
  check(values != nullptr || begin == end, "[activations] values is null");
}

void check_weights(const PackedWeights& weights) {
  check(weights.out > 0 && weights.in > 0, "[matmul] weights: expected packed ones, got none");
  check(weights.bits == 4 || weights.bits == 8, "[matmul] weights: expected 4 or 8 bits");
}

// Rows is QuantizedRows or Bf16Rows; elements: its codes or values.
template <class Rows>
void check_rows(const PackedWeights& weights, const Rows& rows, std::size_t elements) {
  check_weights(weights);
  check(rows.in == weights.in, "[matmul] activations and weights differ in `in`");
  check(rows.group_size == weights.group_size, "[matmul] activations and weights differ in groups");
  const auto count = static_cast<std::size_t>(rows.rows);
  check(rows.rows >= 0 && elements == count * static_cast<std::size_t>(row_stride(rows.in)) &&
            rows.sums.size() == count * static_cast<std::size_t>(weights.groups()),
        "[matmul] activations: expected the sizes that resize() gives");
}

void check_output(const Output& output,
                  std::int64_t rows,
                  std::int64_t begin,
                  std::int64_t end,
                  std::int64_t out) {
  check(0 <= begin && begin <= end && end <= out, "[matmul] expected 0 <= begin <= end <= out");
  check(rows <= 1 || output.stride >= end, "[matmul] stride: expected at least `end`");
  const bool nothing = rows == 0 || begin == end;
  check(nothing || (output.values != nullptr) != (output.bf16 != nullptr),
        "[matmul] output: expected just one of values and bf16");
  check(nothing || (output.combine == Combine::kNone) == (output.operand == nullptr),
        "[matmul] output: `combine` and `operand` go together");
  check(output.operand == nullptr || rows <= 1 || output.operand_stride >= end,
        "[matmul] operand_stride: expected at least `end`");
}

WeightArguments arguments_of(const PackedWeights& weights) {
  WeightArguments arguments;
  arguments.codes = weights.codes.data();
  arguments.scales = weights.scales.data();
  arguments.zero_points = weights.zero_points.empty() ? nullptr : weights.zero_points.data();
  arguments.steps = (weights.in + kStep - 1) / kStep;
  arguments.group_steps = group_length(weights.in, weights.group_size) / kStep;
  arguments.groups = weights.groups();
  return arguments;
}

FinishArguments arguments_of(const Output& output, std::int64_t begin, std::int64_t end) {
  return {output.values,
          output.bf16,
          output.stride,
          output.bias,
          static_cast<int>(output.function),
          static_cast<int>(output.combine),
          output.operand,
          output.operand_stride,
          begin,
          end};
}

RowArguments row_arguments(const float* values,
                           std::int64_t row,
                           std::int64_t in,
                           std::int64_t group_size,
                           const std::optional<TransformArguments>& transform) {
  return {values + row * in, in, row_stride(in), group_length(in, group_size),
          transform ? &*transform : nullptr};
}

// Memory of the calling thread, as kernel_table.h asks for.
std::uint8_t* integer_scratch(const PackedWeights& weights) {
  const std::int64_t steps = (weights.in + kStep - 1) / kStep;
  thread_local Scratch scratch;
  return scratch.get(kScratchBase + steps * kQuadBytes + weights.groups() * 48);
}

}  // namespace

std::int64_t row_stride(std::int64_t in) {
  return (in + 63) / 64 * 64;
}

void QuantizedRows::resize(std::int64_t new_rows,
                           std::int64_t new_in,
                           std::int64_t new_group_size) {
  check_sizes(new_rows, new_in, new_group_size);
  rows = new_rows;
  in = new_in;
  group_size = new_group_size;
  codes.resize(static_cast<std::size_t>(rows * row_stride(in)));
  scales.resize(static_cast<std::size_t>(rows));
  sums.resize(static_cast<std::size_t>(rows * group_count(in, group_size)));
}

void Bf16Rows::resize(std::int64_t new_rows, std::int64_t new_in, std::int64_t new_group_size) {
  check_sizes(new_rows, new_in, new_group_size);
  rows = new_rows;
  in = new_in;
  group_size = new_group_size;
  values.resize(static_cast<std::size_t>(rows * row_stride(in)));
  sums.resize(static_cast<std::size_t>(rows * group_count(in, group_size)));
}

const KernelTable& kernel_table(CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512Vnni) {
    return multiplies_bf16_fast() ? kAvx512VnniDotTable : kAvx512VnniTable;
  }
  if (level == CpuLevel::kAvx2) return kAvx2Table;
#endif
  (void)level;
  return kScalarTable;
}

void quantize_rows_with(const KernelTable& table,
                        const float* values,
                        const ActivationCodes& format,
                        std::int64_t begin,
                        std::int64_t end,
                        QuantizedRows& result) {
  check(format.bits >= 2 && format.bits <= 8, "[quantize_rows] expected 2 to 8 bits");
  check(format.clip_ratio > 0.0f && format.clip_ratio <= 1.0f,
        "[quantize_rows] expected 0 < clip_ratio <= 1");
  check(format.static_scale >= 0.0f && format.static_scale <= 3.4e38f,
        "[quantize_rows] expected a static scale that is 0 or positive and finite");
  check_range(values, begin, end, result.rows);
  CodeRange range;
  range.clip_ratio = format.clip_ratio;
  range.static_scale = format.static_scale;
  range.half_range = static_cast<float>((1 << format.bits) - 1) / 2.0f;
  range.low = static_cast<float>(-(1 << (format.bits - 1)));
  range.high = -range.low - 1.0f;
  const std::int64_t groups = group_count(result.in, result.group_size);
  const auto transform = find_transform(format.transform, result.in);
  for (std::int64_t row = begin; row < end; ++row) {
    table.rows.quantize_row(row_arguments(values, row, result.in, result.group_size, transform),
                            range, result.codes.data() + row * row_stride(result.in),
                            result.scales.data() + row, result.sums.data() + row * groups);
  }
}

void round_rows_with(const KernelTable& table,
                     const float* values,
                     std::int64_t begin,
                     std::int64_t end,
                     Bf16Rows& result,
                     const Hadamard* transform) {
  check_range(values, begin, end, result.rows);
  const std::int64_t groups = group_count(result.in, result.group_size);
  const auto arguments = find_transform(transform, result.in);
  for (std::int64_t row = begin; row < end; ++row) {
    table.rows.round_row(row_arguments(values, row, result.in, result.group_size, arguments),
                         result.values.data() + row * row_stride(result.in),
                         result.sums.data() + row * groups);
  }
}

void transform_rows_with(const KernelTable& table,
                         float* values,
                         std::int64_t in,
                         const Hadamard& transform,
                         std::int64_t begin,
                         std::int64_t end) {
  check_sizes(end, in, 0);
  check_range(values, begin, end, end);
  const auto arguments = find_transform(&transform, in);
  if (!arguments) return;
  for (std::int64_t row = begin; row < end; ++row) {
    table.rows.transform_row(row_arguments(values, row, in, 0, arguments));
    std::memcpy(values + row * in, arguments->result, static_cast<std::size_t>(in) * sizeof(float));
  }
}

void matmul_with(const KernelTable& table,
                 const PackedWeights& weights,
                 const QuantizedRows& activations,
                 std::int64_t begin,
                 std::int64_t end,
                 const Output& output) {
  check_rows(weights, activations, activations.codes.size());
  check_output(output, activations.rows, begin, end, weights.out);
  if (activations.rows == 0 || begin == end) return;
  const IntegerArguments arguments{arguments_of(weights),
                                   activations.codes.data(),
                                   row_stride(activations.in),
                                   activations.scales.data(),
                                   activations.sums.data(),
                                   activations.rows,
                                   arguments_of(output, begin, end),
                                   integer_scratch(weights)};
  (weights.bits == 4 ? table.integer.matmul_w4_a8 : table.integer.matmul_w8_a8)(arguments);
}

void matmul_with(const KernelTable& table,
                 const PackedWeights& weights,
                 const Bf16Rows& activations,
                 std::int64_t begin,
                 std::int64_t end,
                 const Output& output) {
  check_rows(weights, activations, activations.values.size());
  check_output(output, activations.rows, begin, end, weights.out);
  if (activations.rows == 0 || begin == end) return;
  const Bf16Arguments arguments{arguments_of(weights),      activations.values.data(),
                                row_stride(activations.in), activations.sums.data(),
                                activations.rows,           arguments_of(output, begin, end)};
  (weights.bits == 4 ? table.bf16.matmul_w4_a16 : table.bf16.matmul_w8_a16)(arguments);
}

void quantize_rows(const float* values,
                   const ActivationCodes& format,
                   std::int64_t begin,
                   std::int64_t end,
                   QuantizedRows& result) {
  quantize_rows_with(kernel_table(cpu_level()), values, format, begin, end, result);
}

void round_rows(const float* values,
                std::int64_t begin,
                std::int64_t end,
                Bf16Rows& result,
                const Hadamard* transform) {
  round_rows_with(kernel_table(cpu_level()), values, begin, end, result, transform);
}

void transform_rows(float* values,
                    std::int64_t in,
                    const Hadamard& transform,
                    std::int64_t begin,
                    std::int64_t end) {
  transform_rows_with(kernel_table(cpu_level()), values, in, transform, begin, end);
}

void matmul(const PackedWeights& weights,
            const QuantizedRows& activations,
            std::int64_t begin,
            std::int64_t end,
            const Output& output) {
  matmul_with(kernel_table(cpu_level()), weights, activations, begin, end, output);
}

void matmul(const PackedWeights& weights,
            const Bf16Rows& activations,
            std::int64_t begin,
            std::int64_t end,
            const Output& output) {
  matmul_with(kernel_table(cpu_level()), weights, activations, begin, end, output);
}

}  // namespace qvlm::kernels
