// Low-bit matrix products on plain memory. This header and the library behind it (qvlm::kernels)
// need nothing but the C++ standard library; there are no threads inside, and a call computes just
// the output columns it is given, so a caller splits the range as it likes and gets the same bits
// for any split.
//
//   out[m, n] = activation_scale[m] * sum over groups g of weight_scale[n, g] *
//               (sum over k in g of activation_code[m, k] * weight_code[n, k])  + bias[n]
//
// Integer sums are equal bit for bit at every CPU level; the float steps are written in one order
// at all levels.
#pragma once

#include <cstddef>
#include <cstdint>
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

// Weights of one linear, rearranged for the kernels. Build once with pack_weights().
struct PackedWeights {
  int bits = 8;  // 8, or 4 (two codes a byte)
  std::int64_t out = 0, in = 0;
  std::int64_t group_size = 0;      // along `in`; 0: one scale per output channel
  std::vector<std::uint8_t> codes;  // layout: docs/formats.md, "Packed weights"
  std::vector<float> scales;        // [panels, groups, 64], see there
};

// codes: [out, in] in [-2^(bits-1), 2^(bits-1) - 1]; scales: [out, groups]. Codes of 2 and 3 bits
// are packed as 4, those of 5 to 7 bits as 8. group_size: 0 or a multiple of 8; the last group of a
// row may be shorter. A group has at most 131071 codes. Throws std::invalid_argument for sizes or
// codes that do not fit.
PackedWeights pack_weights(std::span<const std::int8_t> codes,
                           std::span<const float> scales,
                           std::int64_t out,
                           std::int64_t in,
                           int bits,
                           std::int64_t group_size);

// Activation codes of a batch of tokens.
struct QuantizedRows {
  std::int64_t rows = 0, in = 0;
  std::vector<std::int8_t> codes;  // [rows, in]
  std::vector<float> scales;       // [rows]
};

// Quantizes each row by its own absolute maximum: scale = clip_ratio * absmax / ((2^bits - 1) / 2),
// codes rounded half to even and clamped; an all-zero row gets scale 1. A row with a NaN or an
// infinity gets scale NaN and codes 0, so its outputs are NaN. values: [rows, in]; rows may be 0,
// in may not; 2 to 8 bits; 0 < clip_ratio <= 1. Throws std::invalid_argument otherwise. The codes
// are value / scale, a true division, and are the same at every CPU level.
void quantize_rows(const float* values,
                   std::int64_t rows,
                   std::int64_t in,
                   int bits,
                   float clip_ratio,
                   QuantizedRows& result);

// out[m, n] for n in [begin, end); bias may be null; `stride` is the distance between rows of
// `out`. Ranges that begin at a multiple of 64 cost least. Throws std::invalid_argument for sizes
// that do not fit.
void matmul(const PackedWeights& weights,
            const QuantizedRows& activations,
            const float* bias,
            std::int64_t begin,
            std::int64_t end,
            float* out,
            std::int64_t stride);

}  // namespace qvlm::kernels
