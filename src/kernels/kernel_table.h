// What a CPU level offers: one function pointer per operation, on raw pointers. Arguments are
// checked by dispatch.cc; the kernels trust them. Level files include this header, finish.h and no
// other of ours, and of the standard library only <cstddef> and <cstdint>: an inline function of
// another header, compiled for AVX-512, could be the copy that the linker keeps for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qvlm::kernels {

// The packed layout (docs/formats.md, "Packed weights"): panels of 64 output columns, cut along
// `in` into steps of 8 codes. A step is two quads, and a quad holds 4 consecutive codes of each
// column.
inline constexpr std::int64_t kPanel = 64;
inline constexpr std::int64_t kStep = 8;
inline constexpr std::int64_t kQuadBytes = 4 * kPanel;
inline constexpr std::int64_t kStepBytes8 = 2 * kQuadBytes;  // the second quad follows the first
inline constexpr std::int64_t kStepBytes4 = kQuadBytes;      // ... is in the high nibbles

// Packed weights, as a kernel sees them. Codes are stored plus 2^(bits-1), as unsigned numbers,
// because that is the operand order of the byte products of x86.
struct WeightArguments {
  const std::uint8_t* codes;
  const float* scales;             // [panels, groups, 64]
  const std::int8_t* zero_points;  // [panels, groups, 64], or null
  std::int64_t steps;              // of the whole `in`; the last is padded with code 0
  std::int64_t group_steps;        // of one group; the last group may have fewer
  std::int64_t groups;
};

// How a product leaves: see Output in qvlm/kernels.h. The enumerators are its numbers.
struct FinishArguments {
  float* values;
  std::uint16_t* bf16;
  std::int64_t stride;
  const float* bias;  // [out] or null
  int function;
  int combine;
  const float* operand;
  std::int64_t operand_stride;
  std::int64_t begin, end;  // output columns
};

// One product of codes. A kernel that multiplies weights as they are stored subtracts
// (2^(bits-1) + zero_point) times the sum of the activation codes of the group.
struct IntegerArguments {
  WeightArguments weights;
  const std::int8_t* activations;  // [rows, activation_stride], zero behind `in`
  std::int64_t activation_stride;
  const float* activation_scales;       // [rows]
  const std::int32_t* activation_sums;  // [rows, groups]
  std::int64_t rows;
  FinishArguments finish;
  std::uint8_t* scratch;  // kScratchBase + steps * kQuadBytes + groups * 48 bytes, aligned to 64
};
inline constexpr std::int64_t kScratchBase = 8192;

// One product of codes with bfloat16 numbers; order of the activations: see Bf16Rows.
struct Bf16Arguments {
  WeightArguments weights;
  const std::uint16_t* activations;  // [rows, activation_stride], zero behind `in`
  std::int64_t activation_stride;
  const float* activation_sums;  // [rows, groups]
  std::int64_t rows;
  FinishArguments finish;
};

struct CodeRange {
  float clip_ratio, static_scale;  // see ActivationCodes
  float half_range;                // (2^bits - 1) / 2
  float low, high;                 // of codes
};

inline constexpr std::int64_t kMostOrder = 256;  // of the small matrix of a transform
// Entries that the transform makes of 4 rows of a matrix: a sum for each choice of signs, of 64
// bytes.
inline constexpr std::int64_t kSignChoices = 16;
inline constexpr std::int64_t kSignedSumBytes = 64;

// An orthogonal transform of a row: see Hadamard in qvlm/kernels.h. `order` runs of values are a
// block of the row.
struct TransformArguments {
  std::int64_t order, run;     // of the small matrix; run: a power of two
  const std::uint16_t* terms;  // [order, order / 4], see Hadamard
  float factor;                // 1 / sqrt(order * run)
  float* result;               // [stride], aligned to 64
  float* table;                // order > 1: [order / 4, kSignChoices] sums, aligned to 64
};

// Where one row goes. `stride` elements are written, those behind `in` are zero.
struct RowArguments {
  const float* values;  // [in]
  std::int64_t in, stride;
  std::int64_t group_size;              // `in` or less
  const TransformArguments* transform;  // of the values on their way; or null
};

// A level's operations come from three files in the folder of its name: rows.cc, matmul_a8.cc and
// matmul_a16.cc.
struct RowKernels {
  void (*quantize_row)(const RowArguments& row,
                       const CodeRange& range,
                       std::int8_t* codes,
                       float* scale,
                       std::int32_t* sums);
  void (*round_row)(const RowArguments& row, std::uint16_t* values, float* sums);
  void (*transform_row)(const RowArguments& row);  // to row.transform->result
};

struct IntegerKernels {
  void (*matmul_w8_a8)(const IntegerArguments& arguments);
  void (*matmul_w4_a8)(const IntegerArguments& arguments);
};

struct Bf16Kernels {
  void (*matmul_w8_a16)(const Bf16Arguments& arguments);
  void (*matmul_w4_a16)(const Bf16Arguments& arguments);
};

struct KernelTable {
  const char* name;  // of the level
  const RowKernels& rows;
  const IntegerKernels& integer;
  const Bf16Kernels& bf16;
};

extern const RowKernels kScalarRows;
extern const IntegerKernels kScalarInteger;
extern const Bf16Kernels kScalarBf16;
#if defined(__x86_64__)
extern const RowKernels kAvx2Rows, kAvx512VnniRows;
extern const IntegerKernels kAvx2Integer, kAvx512VnniInteger;
extern const Bf16Kernels kAvx2Bf16, kAvx512VnniBf16;
extern const Bf16Kernels kAvx512VnniBf16Dot;  // by vdpbf16ps, which not every CPU of the level has
#endif

}  // namespace qvlm::kernels
