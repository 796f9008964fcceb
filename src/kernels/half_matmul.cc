#include "kernels/half_matmul.h"

#include "qvlm/kernels.h"

namespace qvlm::kernels {

void matmul(const HalfMatmul& product, std::int64_t begin, std::int64_t end) {
#if defined(__x86_64__)
  if (cpu_level() == CpuLevel::kAvx2) return kAvx2Half(product, begin, end);
  if (cpu_level() != CpuLevel::kScalar) return kAvx512VnniHalf(product, begin, end);
#endif
  kScalarHalf(product, begin, end);
}

}  // namespace qvlm::kernels
