#include "rounding/gptq.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "rounding/cholesky.h"
#include "tensor/shape.h"

// The published algorithm updates the columns to come by rows of the Cholesky factor of H^-1. This
// is the same, column by column, without an inverse (LDLQ; Chee et al. 2023 prove them equal): with
// H = R R^T, R upper triangular, the error of a row e = w - q at the output is |e R|^2, and its
// j-th term, R_jj (e_j + sum over i < j of e_i R_ij / R_jj), is smallest for the code nearest to
// w_j + that sum. So errors are those of the original weight, and nothing is updated in place.
namespace qvlm {
namespace {

constexpr std::int64_t kChunkRows = 256;  // rounded by one thread
constexpr int kMostGrowths = 3;

void check_moment(const at::Tensor& moment, const GptqOptions& options) {
  require_shape(moment, "gptq: second_moment", {kAnySize, kAnySize});
  require_shape(moment, "gptq: second_moment", {moment.size(0), moment.size(0)});
  require(std::isfinite(options.damping) && options.damping > 0, ErrorKind::kInvalidArgument,
          "gptq: expected a damping above 0, got ", options.damping);
  require(moment.isfinite().all().item<bool>(), ErrorKind::kInvalidArgument,
          "gptq: the second moment holds NaN or infinity");
  require((moment.diagonal() >= 0).all().item<bool>(), ErrorKind::kInvalidArgument,
          "gptq: the second moment has a negative diagonal");
}

// The mean of the diagonal over inputs that are not dead, or 1.
double mean_power(const at::Tensor& diagonal) {
  const double* const power = diagonal.const_data_ptr<double>();
  double sum = 0.0, alive = 0.0;
  for (std::int64_t i = 0; i < diagonal.size(0); ++i) {
    sum += power[i];
    alive += power[i] > 0 ? 1.0 : 0.0;
  }
  return alive > 0 ? sum / alive : 1.0;
}

// The lower Cholesky factor of the matrix with `damping` added to its diagonal, or with more. What
// is above the diagonal is of no use.
at::Tensor damped_cholesky(const at::Tensor& matrix, double damping) {
  for (int growths = 0; growths <= kMostGrowths; ++growths, damping *= 10) {
    at::Tensor lower = matrix.clone();
    lower.diagonal().add_(damping);
    if (factorize_cholesky(lower)) return lower;
  }
  fail(ErrorKind::kInvalidArgument,
       "gptq: the second moment is not positive definite, not even with ", damping / 10,
       " added to its diagonal");
}

// Some rows of a weight on their way. Columns come first, so that one lies together.
struct Rows {
  at::Tensor weight;         // [in, rows] in the order of the steps
  std::vector<Grid> grids;   // of each step, [rows]
  at::Tensor errors, codes;  // [in, rows] float32 and int8, of the steps so far
};

// Grids [rows] of the groups.
std::vector<Grid> group_grids(const QuantizedTensor& nearest) {
  std::vector<Grid> grids;
  for (const at::Tensor& scale : nearest.scale.t().contiguous().unbind(0))
    grids.push_back({scale, {}});
  if (!nearest.zero_point.defined()) return grids;
  const at::Tensor zero_points = nearest.zero_point.t().to(at::kFloat).contiguous();
  for (std::size_t group = 0; group < grids.size(); ++group)
    grids[group].zero_point = zero_points[static_cast<std::int64_t>(group)];
  return grids;
}

Rows make_rows(const at::Tensor& weight, const QuantizedTensor& nearest, const at::Tensor& order) {
  const std::vector<Grid> groups = group_grids(nearest);
  const std::int64_t in = weight.size(1), width = in / static_cast<std::int64_t>(groups.size());
  Rows rows{weight.t().index_select(0, order).contiguous(), {}, {}, {}};
  const std::int64_t* const column = order.const_data_ptr<std::int64_t>();
  for (std::int64_t step = 0; step < in; ++step)
    rows.grids.push_back(groups[static_cast<std::size_t>(column[step] / width)]);
  rows.errors = at::empty_like(rows.weight);
  rows.codes = at::empty_like(rows.weight, at::kChar);
  return rows;
}

// Rounds the steps [begin, begin + targets.size(0)); targets [steps, rows] already make up for the
// errors before begin.
void round_block(Rows& rows,
                 const at::Tensor& targets,
                 const at::Tensor& factors,
                 std::int64_t begin,
                 const Scheme& scheme) {
  for (std::int64_t i = 0; i < targets.size(0); ++i) {
    const std::int64_t step = begin + i;
    const Grid& grid = rows.grids[static_cast<std::size_t>(step)];
    const at::Tensor target = i == 0 ? targets[0]
                                     : at::addmv(targets[i], rows.errors.narrow(0, begin, i).t(),
                                                 factors[step].narrow(0, begin, i));
    const at::Tensor codes = quantize(target, grid, scheme);
    rows.codes[step].copy_(codes);
    at::Tensor error = rows.errors[step];
    at::sub_out(error, rows.weight[step], dequantize(codes, grid));
  }
}

// Codes [rows, in] of some rows of a weight.
at::Tensor round_rows(const at::Tensor& weight,
                      const QuantizedTensor& nearest,
                      const GptqFeedback& feedback,
                      std::int64_t block) {
  const std::int64_t in = weight.size(1);
  Rows rows = make_rows(weight, nearest, feedback.order);
  for (std::int64_t begin = 0; begin < in; begin += block) {
    const std::int64_t end = std::min(begin + block, in);
    at::Tensor targets = rows.weight.slice(0, begin, end);
    if (begin > 0)
      targets = at::addmm(targets, feedback.factors.slice(0, begin, end).slice(1, 0, begin),
                          rows.errors.slice(0, 0, begin));
    round_block(rows, targets, feedback.factors, begin, nearest.scheme);
  }
  return at::empty_like(rows.codes).index_copy_(0, feedback.order, rows.codes).t();
}

}  // namespace

// Rows and columns of dead inputs are 0: damping alone makes their diagonal positive, and nothing
// is fed back to or from them.
GptqFeedback make_gptq_feedback(const at::Tensor& second_moment, const GptqOptions& options) {
  check_moment(second_moment, options);
  const at::Tensor diagonal = second_moment.diagonal().to(at::kDouble, false, /*copy=*/true);
  const at::Tensor order = options.act_order
                               ? at::argsort(diagonal, /*stable=*/true, 0, /*descending=*/true)
                               : at::arange(diagonal.size(0), at::kLong);
  // The upper factor of a matrix is the lower one of the reversed matrix, reversed.
  const at::Tensor reversed = order.flip(0);
  at::Tensor lower = damped_cholesky(
      second_moment.to(at::kDouble).index_select(0, reversed).index_select(1, reversed),
      options.damping * mean_power(diagonal));
  lower.div_(lower.diagonal().clone());  // each column by its own
  return {order, lower.to(at::kFloat).t().flip({0, 1}).contiguous()};
}

QuantizedTensor gptq(const at::Tensor& weight,
                     const at::Tensor& second_moment,
                     const Scheme& scheme,
                     at::ScalarType storage,
                     const GptqOptions& options) {
  return gptq(weight, make_gptq_feedback(second_moment.detach(), options), scheme, storage,
              options);
}

QuantizedTensor gptq(const at::Tensor& weight,
                     const GptqFeedback& feedback,
                     const Scheme& scheme,
                     at::ScalarType storage,
                     const GptqOptions& options) {
  require_shape(weight, "gptq: weight", {kAnySize, feedback.order.size(0)});
  require(options.block > 0, ErrorKind::kInvalidArgument,
          "gptq: expected a block of 1 or more, got ", options.block);
  const at::Tensor values = weight.detach().to(at::kFloat);
  QuantizedTensor result = quantize_weight(values, scheme, storage);
  const std::int64_t out = values.size(0);
  std::vector<at::Tensor> codes(static_cast<std::size_t>((out + kChunkRows - 1) / kChunkRows));
  for_each_apart(static_cast<std::int64_t>(codes.size()), [&](std::int64_t chunk) {
    const c10::InferenceMode inference;  // holds for this thread
    const std::int64_t begin = chunk * kChunkRows, end = std::min(begin + kChunkRows, out);
    const auto part = [&](const at::Tensor& all) {
      return all.defined() ? all.slice(0, begin, end) : all;
    };
    const QuantizedTensor nearest{scheme, part(result.codes), part(result.scale),
                                  part(result.zero_point)};
    codes[static_cast<std::size_t>(chunk)] =
        round_rows(part(values), nearest, feedback, options.block);
  });
  result.codes = at::cat(codes).contiguous();
  return result;
}

}  // namespace qvlm
