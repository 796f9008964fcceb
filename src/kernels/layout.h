// The packed layout, written out plainly: pack_weights() of qvlm/kernels.h and its inverse. The
// layout is described in docs/formats.md, "Packed weights"; its constants are in kernel_table.h.
#pragma once

#include <cstdint>
#include <vector>

#include "qvlm/kernels.h"

namespace qvlm::kernels {

struct UnpackedWeights {
  std::vector<std::int8_t> codes;        // [out, in]
  std::vector<float> scales;             // [out, groups]
  std::vector<std::int8_t> zero_points;  // [out, groups], or empty
};

// Undoes pack_weights(); for tests and diagnosis.
UnpackedWeights unpack_weights(const PackedWeights& weights);

}  // namespace qvlm::kernels
