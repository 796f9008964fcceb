// What a CPU level offers: one function pointer per operation, on raw pointers. Arguments are
// checked by dispatch.cc; the kernels trust them. Level files include this header and no other of
// ours, and of the standard library only <cstddef> and <cstdint>: an inline function of another
// header, compiled for AVX-512, could be the copy that the linker keeps for everybody.
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

// One product. Codes of weights are stored plus 2^(bits-1), as unsigned numbers, because that is
// the operand order of the byte products of x86; a kernel that multiplies them as they are
// subtracts 2^(bits-1) times the sum of the activation codes of the group.
struct MatmulArguments {
  const std::uint8_t* codes;  // packed weights
  const float* scales;        // [panels, groups, 64]
  std::int64_t steps;         // of the whole `in`; the last is padded with code 0
  std::int64_t group_steps;   // of one group; the last group may have fewer
  std::int64_t groups;
  const std::int8_t* activations;       // [rows, 8 * steps], zero behind `in`
  const float* activation_scales;       // [rows]
  const std::int32_t* activation_sums;  // [rows, groups], sums of codes
  std::int64_t rows;
  const float* bias;        // [out] or null
  std::int64_t begin, end;  // output columns
  float* out;               // out[m * stride + n]
  std::int64_t stride;
};

struct KernelTable {
  const char* name;
  // See qvlm/kernels.h. half_range: (2^bits - 1) / 2; low, high: the range of codes.
  void (*quantize_row)(const float* values,
                       std::int64_t in,
                       float clip_ratio,
                       float half_range,
                       float low,
                       float high,
                       std::int8_t* codes,
                       float* scale);
  // sums[m, g] = sum of the codes of group g; codes: [rows, 8 * steps].
  void (*group_sums)(const std::int8_t* codes,
                     std::int64_t rows,
                     std::int64_t steps,
                     std::int64_t group_steps,
                     std::int32_t* sums);
  void (*matmul_w8_a8)(const MatmulArguments& arguments);
  void (*matmul_w4_a8)(const MatmulArguments& arguments);
};

extern const KernelTable kScalarTable;
#if defined(__x86_64__)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512VnniTable;
#endif

}  // namespace qvlm::kernels
