#include "kernels/half_rows.h"

namespace qvlm::kernels {

const HalfKernel kAvx512VnniHalf = multiply_halves;

}  // namespace qvlm::kernels
