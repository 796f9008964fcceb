#include "transforms/scale_search.h"

#include <algorithm>

#include "base/parallel.h"
#include "io/scheme.h"
#include "quant/hadamard_rows.h"
#include "quant/input_rounding.h"
#include "quant/quantized_tensor.h"

namespace qvlm {
namespace {

constexpr int kSteps = 20;

double squares_of(const at::Tensor& x) {
  return x.square().sum(at::kDouble).item<double>();
}

// rows weight^T, in parts that each run on one thread.
at::Tensor product_of(const at::Tensor& rows, const at::Tensor& weight) {
  at::Tensor product = at::empty({rows.size(0), weight.size(0)});
  const std::int64_t parts = (weight.size(0) + ScaleSearch::kRows - 1) / ScaleSearch::kRows;
  for_each_apart(parts, [&](std::int64_t part) {
    const c10::InferenceMode inference;
    const std::int64_t begin = part * ScaleSearch::kRows;
    const std::int64_t end = std::min(begin + ScaleSearch::kRows, weight.size(0));
    product.slice(1, begin, end).copy_(at::matmul(rows, weight.slice(0, begin, end).t()));
  });
  return product;
}

}  // namespace

ScaleSearch::ScaleSearch(const WeightSource& weights,
                         const std::vector<LinearShape>& linears,
                         const LinearSchemes& schemes,
                         at::Tensor rows,
                         Rotation turn)
    : rows_(std::move(rows)), turn_(std::move(turn)) {
  for (const LinearShape& linear : linears) {
    const auto scheme = schemes.find(linear.name);
    if (scheme == schemes.end()) continue;
    const at::Tensor stored = weights.load(linear.name + ".weight", {linear.out, linear.in});
    const at::Tensor weight = stored.to(at::kFloat), product = product_of(rows_, weight);
    double size = 0.0;
    for_each_apart(1, [&](std::int64_t) { size = squares_of(product); });
    trials_.push_back({weight, scheme->second, stored.scalar_type(), product, size});
    // Static scales are measured later, by the search of clips: here every token has its own.
    LinearScheme& own = trials_.back().scheme;
    if (has_static_input(own)) {
      own.activation->dynamic = true;
      own.activation->granularity = Granularity::kToken;
    }
  }
}

double ScaleSearch::error(const Trial& trial, const at::Tensor& scales) const {
  const std::int64_t out = trial.weight.size(0);
  const auto turned = [this](const at::Tensor& rows) { return turn_ ? turn_.rows(rows) : rows; };
  const at::Tensor rows = turned(scales.defined() ? rows_ / scales : rows_);
  const at::Tensor inputs = (*make_rounding(trial.scheme, trial.weight.size(1)))(rows);
  double errors = 0.0;
  // A scale for the whole tensor needs the whole of it.
  const bool whole = trial.scheme.weight.granularity == Granularity::kTensor;
  const std::int64_t step = whole ? out : kRows;
  for (std::int64_t begin = 0; begin < out; begin += step) {
    const std::int64_t end = std::min(begin + step, out);
    const at::Tensor part = trial.weight.slice(0, begin, end);
    const at::Tensor weight =
        weight_to_round(turned(scales.defined() ? part * scales : part), trial.scheme);
    const at::Tensor rounded =
        quantize_weight(weight, trial.scheme.weight, trial.storage).dequantize();
    const at::Tensor product = trial.product.slice(1, begin, end);
    errors += squares_of(at::matmul(inputs, rounded.t()) - product);
  }
  return trial.size > 0.0 ? errors / trial.size : 0.0;
}

double ScaleSearch::error(const at::Tensor& scales) const {
  double sum = 0.0;
  for (const Trial& trial : trials_)
    sum += error(trial, scales);
  return trials_.empty() ? 0.0 : sum / static_cast<double>(trials_.size());
}

std::optional<double> ScaleSearch::find(const std::function<at::Tensor(double alpha)>& scales_of,
                                        const at::Tensor& otherwise) const {
  if (trials_.empty()) return std::nullopt;
  std::vector<double> errors(kSteps + 2);  // the last one: otherwise
  for_each_apart(std::ssize(errors), [&](std::int64_t i) {
    const c10::InferenceMode inference;
    const at::Tensor scales = i > kSteps ? otherwise : scales_of(static_cast<double>(i) / kSteps);
    errors[static_cast<std::size_t>(i)] = error(scales);
  });
  const auto best = std::min_element(errors.begin(), errors.end() - 1);
  if (!(*best < errors.back())) return std::nullopt;
  return static_cast<double>(best - errors.begin()) / kSteps;
}

}  // namespace qvlm
