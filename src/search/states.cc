#include "search/states.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"

namespace qvlm {
namespace {

struct ErrorSum {
  double sum = 0.0;
  double tokens = 0.0;  // their weights
};

// weights: undefined where every token counts 1.
ErrorSum sample_error(const at::Tensor& state,
                      const at::Tensor& reference,
                      ErrorMeasure measure,
                      const at::Tensor& weights) {
  const bool relative = measure == ErrorMeasure::kRelative;
  const std::int64_t first = relative && state.size(0) > 1 ? 1 : 0;
  const at::Tensor errors = token_errors(state.slice(0, first), reference.slice(0, first), measure);
  if (!weights.defined())
    return {errors.sum(at::kDouble).item<double>(), static_cast<double>(errors.size(0))};
  const at::Tensor own = weights.slice(0, first);
  return {(errors * own).sum(at::kDouble).item<double>(), own.sum(at::kDouble).item<double>()};
}

}  // namespace

void for_samples(std::size_t count, const std::function<void(std::size_t)>& fn) {
  for_each_apart(static_cast<std::int64_t>(count),
                 [&](std::int64_t i) { fn(static_cast<std::size_t>(i)); });
}

States map_states(const States& in, const std::function<at::Tensor(const at::Tensor&)>& fn) {
  States out(in.size());
  for_samples(in.size(), [&](std::size_t i) { out[i] = fn(in[i]); });
  return out;
}

at::Tensor token_errors(const at::Tensor& state,
                        const at::Tensor& reference,
                        ErrorMeasure measure) {
  at::Tensor errors = (state - reference).square_().sum(-1);
  if (measure == ErrorMeasure::kRelative)
    errors.div_(reference.square().sum(-1).clamp_min_(std::numeric_limits<float>::min()));
  return errors;
}

double state_error(const States& states, const States& reference, const ErrorTerms& terms) {
  std::vector<ErrorSum> errors(states.size());
  for_samples(states.size(), [&](std::size_t i) {
    const at::Tensor weights = terms.weights.empty() ? at::Tensor() : terms.weights[i];
    errors[i] = sample_error(states[i], reference[i], terms.measure, weights);
  });
  ErrorSum total;
  for (const ErrorSum& error : errors) {
    total.sum += error.sum;
    total.tokens += error.tokens;
  }
  const double mean = total.tokens > 0.0 ? total.sum / total.tokens : 0.0;
  return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
}

}  // namespace qvlm
