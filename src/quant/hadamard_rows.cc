#include "quant/hadamard_rows.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"

namespace qvlm {

at::Tensor hadamard_rows(const at::Tensor& rows, const kernels::Hadamard& hadamard) {
  const at::Tensor turned = rows.clone(at::MemoryFormat::Contiguous);
  const std::int64_t in = rows.size(-1);
  float* values = turned.data_ptr<float>();
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 15) / in);
  for_ranges(turned.numel() / in, grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::transform_rows(values, in, hadamard, begin, end);
  });
  return turned;
}

at::Tensor undo_hadamard_rows(const at::Tensor& rows, const kernels::Hadamard& hadamard) {
  const std::int64_t order = hadamard.order, run = hadamard.width / order;
  at::Tensor runs = rows.reshape({-1, order, run});
  if (order > 1) {
    const at::Tensor matrix = at::tensor(hadamard.matrix, at::kFloat).reshape({order, order});
    runs = at::matmul(matrix / std::sqrt(static_cast<double>(order)), runs);
  }
  // Sylvester's matrix is symmetric: it undoes itself.
  return hadamard_rows(runs, kernels::make_hadamard(run)).reshape(rows.sizes());
}

kernels::Hadamard hadamard_of(const LinearScheme& scheme, std::int64_t in) {
  kernels::Hadamard made = kernels::make_hadamard(in);
  const HadamardInput wanted = *scheme.hadamard_input;
  require(wanted == HadamardInput{made.width, made.order}, ErrorKind::kUnsupported, "a linear of ",
          in, " inputs has them transformed by a Hadamard matrix of width ", wanted.width,
          " and order ", wanted.order, "; supported: ", made.width, " and ", made.order);
  return made;
}

at::Tensor weight_to_round(const at::Tensor& weight, const LinearScheme& scheme) {
  return scheme.hadamard_input ? hadamard_rows(weight, hadamard_of(scheme, weight.size(1)))
                               : weight;
}

}  // namespace qvlm
