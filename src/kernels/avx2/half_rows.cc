#include "kernels/half_rows.h"

namespace qvlm::kernels {

const HalfKernel kAvx2Half = multiply_halves;

}  // namespace qvlm::kernels
