#include "rounding/gptq.h"

#include <cmath>

#include "base/error.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

constexpr std::int64_t kBlock = 128;  // columns between two updates of all that are left

at::Tensor add_to_diagonal(const at::Tensor& matrix, double value) {
  return matrix + value * at::eye(matrix.size(0), matrix.options());
}

// Factor U with U^T U = H^-1, upper triangular: row i says how the error of column i spreads over
// the columns behind it.
at::Tensor factor_of_inverse(const at::Tensor& moments, double damping) {
  const double mean = moments.diagonal().mean().item<double>();
  for (int attempt = 0; attempt < 3; ++attempt, damping *= 10.0) {
    const auto [lower, info] = at::linalg_cholesky_ex(add_to_diagonal(moments, damping * mean));
    if (info.item<int>() != 0) continue;
    const auto [upper, bad] = at::linalg_cholesky_ex(at::cholesky_inverse(lower), /*upper=*/true);
    if (bad.item<int>() == 0) return upper;
  }
  fail(ErrorKind::kInvalidArgument,
       "gptq: the second moments of the inputs are not positive definite; give more calibration "
       "samples or a larger damping");
}

// Scales and zero points of every column: [in, out], rows in the order of the columns.
struct ColumnGrids {
  at::Tensor scale, zero_point;  // zero_point is undefined when symmetric

  Grid at(std::int64_t column) const {
    return {scale[column], zero_point.defined() ? zero_point[column] : at::Tensor()};
  }
};

at::Tensor spread_over_columns(const at::Tensor& per_group,
                               std::int64_t in,
                               const at::Tensor& order) {
  const std::int64_t size = in / per_group.size(1);
  return per_group.to(at::kFloat)
      .repeat_interleave(size, 1)
      .index_select(1, order)
      .t()
      .contiguous();
}

// Rounds the columns [begin, end) of `left` [in, out], the rows' errors spreading over the columns
// of the block behind them. Returns the errors [end - begin, out], for those behind the block.
at::Tensor round_block(at::Tensor& left,
                       const at::Tensor& factor,
                       const ColumnGrids& grids,
                       const Scheme& scheme,
                       std::int64_t begin,
                       at::Tensor& codes) {
  const std::int64_t end = std::min(begin + kBlock, left.size(0));
  at::Tensor errors = at::empty({end - begin, left.size(1)});
  const at::Tensor inside = factor.slice(0, begin, end).slice(1, begin, end).to(at::kFloat);
  for (std::int64_t column = begin; column < end; ++column) {
    const std::int64_t i = column - begin;
    const Grid grid = grids.at(column);
    const at::Tensor code = quantize(left[column], grid, scheme);
    codes[column].copy_(code);
    const at::Tensor error = (left[column] - dequantize(code, grid)) / inside[i][i];
    errors[i].copy_(error);
    if (column + 1 < end) {
      left.slice(0, column + 1, end).sub_(inside[i].slice(0, i + 1).unsqueeze(1) * error);
    }
  }
  return errors;
}

}  // namespace

QuantizedTensor gptq(const at::Tensor& weight,
                     const at::Tensor& second_moment,
                     const Scheme& scheme,
                     at::ScalarType storage,
                     const GptqOptions& options) {
  const std::int64_t in = weight.size(1);
  require_shape(second_moment, "gptq: second moments", {in, in});
  require(second_moment.isfinite().all().item<bool>(), ErrorKind::kInvalidArgument,
          "gptq: the second moments are not finite");
  QuantizedTensor result = quantize_weight(weight, scheme, storage);
  at::Tensor moments = second_moment.to(at::kDouble).clone();
  const at::Tensor dead = moments.diagonal() <= 0;
  moments.diagonal().masked_fill_(dead, 1.0);

  const at::Tensor order =
      options.act_order ? at::argsort(moments.diagonal(), /*stable=*/true, 0, /*descending=*/true)
                        : at::arange(in);
  const at::Tensor factor =
      factor_of_inverse(moments.index_select(0, order).index_select(1, order), options.damping);
  const ColumnGrids grids{spread_over_columns(result.scale, in, order),
                          result.zero_point.defined()
                              ? spread_over_columns(result.zero_point, in, order)
                              : at::Tensor()};
  at::Tensor left = weight.index_select(1, order).t().contiguous();  // [in, out]
  at::Tensor codes = at::empty_like(left);
  for (std::int64_t begin = 0; begin < in; begin += kBlock) {
    const at::Tensor errors = round_block(left, factor, grids, scheme, begin, codes);
    const std::int64_t end = begin + errors.size(0);
    if (end == in) break;
    const at::Tensor behind = factor.slice(0, begin, end).slice(1, end).to(at::kFloat);
    left.slice(0, end).sub_(at::matmul(behind.t(), errors));
  }
  result.codes = at::empty_like(result.codes).index_copy_(1, order, codes.t().to(at::kChar));
  return result;
}

double output_error(const at::Tensor& rounded,
                    const at::Tensor& weight,
                    const at::Tensor& second_moment) {
  const auto energy = [&](const at::Tensor& matrix) {
    const at::Tensor rows = matrix.to(at::kDouble);
    return (at::matmul(rows, second_moment.to(at::kDouble)) * rows).sum().item<double>();
  };
  return energy(rounded - weight) / energy(weight);
}

}  // namespace qvlm
