#include "kernels/half_rows.h"

namespace qvlm::kernels {

const HalfKernel kScalarHalf = multiply_halves;

}  // namespace qvlm::kernels
