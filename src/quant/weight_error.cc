#include "quant/weight_error.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/parallel.h"
#include "tensor/shape.h"

namespace qvlm {

double relative_error(const at::Tensor& reals, const at::Tensor& weight) {
  require_shape(weight, "relative_error", {kAnySize, kAnySize});
  const std::int64_t out = weight.size(0), in = weight.size(1);
  require_shape(reals, "relative_error", {out, in});
  const at::Tensor left = reals.contiguous(), right = weight.contiguous();
  const float* got = left.const_data_ptr<float>();
  const float* want = right.const_data_ptr<float>();
  // A sum a row, added up in the order of the rows: LibTorch would cut them by threads.
  std::vector<double> errors(static_cast<std::size_t>(out)), totals(errors);
  constexpr std::int64_t kGrain = 1 << 16;
  for_ranges(out, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, in)),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t row = begin; row < end; ++row) {
                 double error = 0.0, total = 0.0;
                 for (std::int64_t i = row * in; i < (row + 1) * in; ++i) {
                   const double difference = double{got[i]} - double{want[i]};
                   error += difference * difference;
                   total += double{want[i]} * double{want[i]};
                 }
                 errors[static_cast<std::size_t>(row)] = error;
                 totals[static_cast<std::size_t>(row)] = total;
               }
             });
  const double total = std::accumulate(totals.begin(), totals.end(), 0.0);
  return total == 0.0 ? 0.0 : std::accumulate(errors.begin(), errors.end(), 0.0) / total;
}

}  // namespace qvlm
