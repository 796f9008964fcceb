// Access to the kernels of a given level, for tests that compare levels. Everybody else calls the
// functions of qvlm/kernels.h, which use the level of cpu_level().
#pragma once

#include "kernels/kernel_table.h"
#include "qvlm/kernels.h"

namespace qvlm::kernels {

// The kernels of a level that this CPU has.
const KernelTable& kernel_table(CpuLevel level);

void quantize_rows_with(const KernelTable& table,
                        const float* values,
                        const ActivationCodes& format,
                        std::int64_t begin,
                        std::int64_t end,
                        QuantizedRows& result);

void round_rows_with(const KernelTable& table,
                     const float* values,
                     std::int64_t begin,
                     std::int64_t end,
                     Bf16Rows& result,
                     const Hadamard* transform = nullptr);

void transform_rows_with(const KernelTable& table,
                         float* values,
                         std::int64_t in,
                         const Hadamard& transform,
                         std::int64_t begin,
                         std::int64_t end);

void matmul_with(const KernelTable& table,
                 const PackedWeights& weights,
                 const QuantizedRows& activations,
                 std::int64_t begin,
                 std::int64_t end,
                 const Output& output);
void matmul_with(const KernelTable& table,
                 const PackedWeights& weights,
                 const Bf16Rows& activations,
                 std::int64_t begin,
                 std::int64_t end,
                 const Output& output);

}  // namespace qvlm::kernels
