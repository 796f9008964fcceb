// Low-bit matrix products on plain memory. This header and the library behind it (qvlm::kernels)
// need nothing but the C++ standard library; there are no threads inside, and a call computes just
// the output columns it is given, so a caller splits the range as it likes and gets the same bits
// for any split. A row of the result does not depend on the other rows of the call.
//
//   out[m, n] = finish(activation_scale[m] * sum over groups g of weight_scale[n, g] *
//               (sum over k in g of activation[m, k] * (weight_code[n, k] - zero_point[n, g])))
//
// Activations are integer codes (QuantizedRows: the inner sum is an integer, equal bit for bit at
// every CPU level) or bfloat16 numbers (Bf16Rows: activation_scale is 1, the inner sum is float).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace qvlm::kernels {

enum class CpuLevel { kScalar, kAvx2, kAvx512Vnni };

std::string_view cpu_level_name(CpuLevel level);  // "scalar", "avx2", "avx512vnni"
bool cpu_supports(CpuLevel level);
// The level in use: the best this CPU has, or the one QVLM_CPU_LEVEL names. Throws
// std::runtime_error, listing the choices, if that is unknown or more than this CPU has.
CpuLevel cpu_level();

// Weights of one linear, rearranged for the kernels: docs/formats.md, "Packed weights". Copies
// share the memory.
struct PackedWeights {
  int bits = 8;  // 8, or 4 (two codes a byte)
  std::int64_t out = 0, in = 0;
  std::int64_t group_size = 0;  // along `in`; 0: one scale per output channel
  std::span<const std::uint8_t> codes;
  std::span<const float> scales;             // [panels, groups, 64]
  std::span<const std::int8_t> zero_points;  // [panels, groups, 64]; empty: symmetric
  std::shared_ptr<const void> memory;        // what the spans point into

  std::int64_t groups() const { return group_size == 0 ? 1 : (in + group_size - 1) / group_size; }
  std::size_t bytes() const { return codes.size() + scales.size_bytes() + zero_points.size(); }
};

// One linear in plain form.
struct PlainWeights {
  std::int64_t out = 0, in = 0;
  int bits = 8;
  std::int64_t group_size = 0;
  std::span<const std::int8_t> codes = {};        // [out, in], in [-2^(bits-1), 2^(bits-1) - 1]
  std::span<const float> scales = {};             // [out, groups]
  std::span<const std::int8_t> zero_points = {};  // [out, groups], in the range of codes; or empty
};

// Codes of 2 and 3 bits are packed as 4, those of 5 to 7 bits as 8. group_size: 0 or a multiple of
// 8; the last group of a row may be shorter. A group is as long as its integer sums fit 32 bits:
// with 8 bits 131071 codes (asymmetric: 65793). Throws std::invalid_argument for sizes, codes or
// zero points that do not fit.
PackedWeights pack_weights(const PlainWeights& weights);

// An orthogonal transform of rows that spreads outliers over many values, as QuaRot does just
// before quantization: each `width` consecutive values x of a row become x H, where H is the
// Kronecker product of `matrix` and Sylvester's Hadamard matrix of order width / order, over
// sqrt(width). It leaves a product as it is if the rows of both operands, activations and weights,
// are transformed. Made by make_hadamard(); the default changes nothing.
struct Hadamard {
  std::int64_t width = 0;  // order * 2^k; 0: no transform
  std::int64_t order = 1;
  std::vector<std::int8_t> matrix = {};   // [order, order], 1 and -1, rows orthogonal
  std::vector<std::uint16_t> terms = {};  // [order, order / 4], the same as the kernels want it
};

// Chooses the transform for rows of `in` values: of the whole row if `in` is a power of two, or one
// times an order up to 256 that Paley's constructions give (12, 20, 28, 36, 44, 60, 68, 76, ...);
// else of blocks as long as the largest power of two that divides `in`, for an odd `in` the
// identity. Throws std::invalid_argument if `in` is not positive.
Hadamard make_hadamard(std::int64_t in);

// Transforms rows [begin, end) of values [rows, in] in place. The same bits at every CPU level:
// sums are float32, in one order. A NaN or an infinity reaches its whole block, and so does an
// infinity of sums that exceed float32. Throws std::invalid_argument for a range out of order and
// an `in` that is no multiple of the width.
void transform_rows(float* values,
                    std::int64_t in,
                    const Hadamard& transform,
                    std::int64_t begin,
                    std::int64_t end);

// How activations become codes.
struct ActivationCodes {
  int bits = 8;             // 2 to 8
  float clip_ratio = 1.0f;  // in (0, 1]: the range is this share of the row's absolute maximum
  float static_scale = 0;   // above 0: the scale of every row, instead of one from its maximum
  const Hadamard* transform = nullptr;  // of the rows before that, as by transform_rows(); or none
};

// Activation codes of a batch of tokens, with the sums that the products need.
struct QuantizedRows {
  std::int64_t rows = 0, in = 0;
  std::int64_t group_size = 0;     // of the weights they will be multiplied with
  std::vector<std::int8_t> codes;  // [rows, row_stride(in)], 0 behind `in`
  std::vector<float> scales;       // [rows]
  std::vector<std::int32_t> sums;  // [rows, groups], of the codes of each group

  // Sets the sizes; quantize_rows() fills the rows.
  void resize(std::int64_t rows, std::int64_t in, std::int64_t group_size);
};

// The same as bfloat16 numbers.
struct Bf16Rows {
  std::int64_t rows = 0, in = 0;
  std::int64_t group_size = 0;
  // [rows, row_stride(in)], 0 behind `in`; each 8 neighbours k lie in the order 0 2 4 6 1 3 5 7
  // (docs/formats.md, "Packed weights").
  std::vector<std::uint16_t> values;
  std::vector<float> sums;  // [rows, groups], of the rounded values

  void resize(std::int64_t rows, std::int64_t in, std::int64_t group_size);
};

// Elements from one row of codes or values to the next: `in` rounded up to 64.
std::int64_t row_stride(std::int64_t in);

// Quantizes rows [begin, end) of values [rows, in]. Dynamic: scale = clip_ratio * absmax /
// ((2^bits - 1) / 2), an all-zero row gets scale 1; static: the given one. Codes are value / scale,
// a true division, rounded half to even and clamped. A row with a NaN or an infinity gets scale NaN
// and codes 0, so its outputs are NaN. The same at every CPU level. `result` has been resized.
// Throws std::invalid_argument for bits, ratios or rows out of range, and transforms of other rows.
void quantize_rows(const float* values,
                   const ActivationCodes& format,
                   std::int64_t begin,
                   std::int64_t end,
                   QuantizedRows& result);

// Rounds rows [begin, end) of values [rows, in] to bfloat16, half to even; NaN and infinity stay.
// With a transform, rounds what transform_rows() makes of the rows.
void round_rows(const float* values,
                std::int64_t begin,
                std::int64_t end,
                Bf16Rows& result,
                const Hadamard* transform = nullptr);

// What is applied to a product: y = function(product + bias), then y + operand or y * operand.
enum class Function { kNone, kSilu, kGelu, kGeluTanh, kQuickGelu };
enum class Combine { kNone, kAdd, kMultiply };

// Where a product goes and what happens on the way. All float steps are in float32 and have the
// same bits at every level; functions are within 4e-7 of the exact ones, relative to max(1, |x|).
struct Output {
  float* values = nullptr;        // [rows, stride]; or
  std::uint16_t* bf16 = nullptr;  // the same as bfloat16, rounded half to even; just one is set
  std::int64_t stride = 0;        // elements from row to row
  const float* bias = nullptr;    // [out]
  Function function = Function::kNone;
  Combine combine = Combine::kNone;
  const float* operand = nullptr;  // [rows, operand_stride]; may be `values` itself
  std::int64_t operand_stride = 0;
};

// Computes columns [begin, end) of all rows. Ranges that begin at a multiple of 64 cost least.
// Throws std::invalid_argument for sizes that do not fit.
void matmul(const PackedWeights& weights,
            const QuantizedRows& activations,
            std::int64_t begin,
            std::int64_t end,
            const Output& output);
void matmul(const PackedWeights& weights,
            const Bf16Rows& activations,
            std::int64_t begin,
            std::int64_t end,
            const Output& output);

}  // namespace qvlm::kernels
