#include "transforms/scale_search.h"

#include <algorithm>

#include "base/parallel.h"
#include "quant/hadamard_rows.h"
#include "quant/input_rounding.h"
#include "quant/quantized_tensor.h"

namespace qvlm {
namespace {

constexpr int kSteps = 20;

}  // namespace

ScaleSearch::ScaleSearch(const WeightSource& weights,
                         const std::vector<LinearShape>& linears,
                         const LinearSchemes& schemes,
                         at::Tensor rows)
    : rows_(std::move(rows)) {
  for (const LinearShape& linear : linears) {
    const auto scheme = schemes.find(linear.name);
    if (scheme == schemes.end()) continue;
    const at::Tensor stored = weights.load(linear.name + ".weight", {linear.out, linear.in});
    const at::Tensor weight = stored.to(at::kFloat);
    trials_.push_back(
        {weight, scheme->second, stored.scalar_type(), at::matmul(rows_, weight.t())});
    // Static scales are measured later, by the search of clips: here every token has its own.
    std::optional<Scheme>& activation = trials_.back().scheme.activation;
    if (activation && !activation->dynamic) {
      activation->dynamic = true;
      activation->granularity = Granularity::kToken;
    }
  }
}

double ScaleSearch::error(const at::Tensor& scales) const {
  double sum = 0.0;
  for (const Trial& trial : trials_) {
    const at::Tensor weight = scales.defined() ? trial.weight * scales : trial.weight;
    const at::Tensor rows = scales.defined() ? rows_ / scales : rows_;
    const at::Tensor rounded =
        quantize_weight(weight_to_round(weight, trial.scheme), trial.scheme.weight, trial.storage)
            .dequantize();
    const at::Tensor inputs = (*make_rounding(trial.scheme, weight.size(1)))(rows);
    const at::Tensor difference = at::matmul(inputs, rounded.t()) - trial.product;
    const double size = trial.product.square().sum(at::kDouble).item<double>();
    if (size > 0.0) sum += difference.square().sum(at::kDouble).item<double>() / size;
  }
  return trials_.empty() ? 0.0 : sum / static_cast<double>(trials_.size());
}

at::Tensor ScaleSearch::find(const std::function<at::Tensor(double alpha)>& scales_of) const {
  std::vector<double> errors(kSteps + 1);
  for_each_apart(std::ssize(errors), [&](std::int64_t i) {
    const c10::InferenceMode inference;
    errors[static_cast<std::size_t>(i)] = error(scales_of(static_cast<double>(i) / kSteps));
  });
  const auto best = std::min_element(errors.begin(), errors.end());
  double plain = 0.0;
  for_each_apart(1, [&](std::int64_t) { plain = error({}); });
  if (*best >= plain) return {};
  return scales_of(static_cast<double>(best - errors.begin()) / kSteps);
}

}  // namespace qvlm
