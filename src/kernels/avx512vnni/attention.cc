#include "kernels/attention_lanes.h"

namespace qvlm::kernels {

const AttentionKernels kAvx512VnniAttention = {attend<float>, attend<std::uint16_t>,
                                               attend<std::int8_t>, attend<CodePair>};

}  // namespace qvlm::kernels
