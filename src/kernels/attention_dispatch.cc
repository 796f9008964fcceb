#include "kernels/attention.h"

namespace qvlm::kernels {

const AttentionKernels& attention_kernels(CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512Vnni) return kAvx512VnniAttention;
  if (level == CpuLevel::kAvx2) return kAvx2Attention;
#endif
  (void)level;
  return kScalarAttention;
}

}  // namespace qvlm::kernels
