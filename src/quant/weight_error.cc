#include "quant/weight_error.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/parallel.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

// tr(rows H rows^T), each pair of different columns once: H is symmetric.
double quadratic_form(const at::Tensor& rows, const at::Tensor& matrix) {
  constexpr std::int64_t kStripe = 256;
  double sum = 0.0;
  for (std::int64_t begin = 0; begin < rows.size(1); begin += kStripe) {
    const std::int64_t end = std::min(begin + kStripe, rows.size(1));
    const at::Tensor mine = rows.slice(1, begin, end), columns = matrix.slice(1, begin, end);
    at::Tensor products = at::mm(mine, columns.slice(0, begin, end));
    if (begin > 0) products.addmm_(rows.slice(1, 0, begin), columns.slice(0, 0, begin), 1, 2);
    sum += products.mul_(mine).sum().item<double>();
  }
  return sum;
}

// The same with many rows, on all threads. A chunk belongs to one of them.
double chunked_quadratic_form(const at::Tensor& rows, const at::Tensor& matrix) {
  constexpr std::int64_t kChunkRows = 256;
  const std::vector<at::Tensor> chunks = rows.split(kChunkRows);
  std::vector<double> sums(chunks.size());
  for_each_apart(static_cast<std::int64_t>(chunks.size()), [&](std::int64_t i) {
    const c10::InferenceMode inference;  // holds for this thread
    sums[static_cast<std::size_t>(i)] = quadratic_form(chunks[static_cast<std::size_t>(i)], matrix);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

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

double output_error(const at::Tensor& weight,
                    const QuantizedTensor& quantized,
                    const at::Tensor& second_moment) {
  require_shape(weight, "output_error: weight", {kAnySize, kAnySize});
  require_shape(quantized.codes, "output_error: codes", {weight.size(0), weight.size(1)});
  require_shape(second_moment, "output_error: second_moment", {weight.size(1), weight.size(1)});
  const at::Tensor wanted = weight.detach().to(at::kDouble);
  const at::Tensor matrix = second_moment.detach().to(at::kDouble).contiguous();
  const double total = chunked_quadratic_form(wanted, matrix);
  return total == 0.0 ? 0.0
                      : chunked_quadratic_form(wanted - quantized.dequantize(), matrix) / total;
}

}  // namespace qvlm
