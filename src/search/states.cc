#include "search/states.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"

namespace qvlm {
namespace {

struct ErrorSum {
  double sum = 0.0;
  std::int64_t tokens = 0;
};

ErrorSum sample_error(const at::Tensor& state, const at::Tensor& reference, ErrorMeasure measure) {
  const bool relative = measure == ErrorMeasure::kRelative;
  const std::int64_t first = relative && state.size(0) > 1 ? 1 : 0;
  const at::Tensor want = reference.slice(0, first);
  at::Tensor errors = (state.slice(0, first) - want).square_().sum(-1);  // [tokens]
  if (relative) errors.div_(want.square().sum(-1).clamp_min_(std::numeric_limits<float>::min()));
  return {errors.sum(at::kDouble).item<double>(), errors.size(0)};
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

double state_error(const States& states, const States& reference, ErrorMeasure measure) {
  std::vector<ErrorSum> errors(states.size());
  for_samples(states.size(),
              [&](std::size_t i) { errors[i] = sample_error(states[i], reference[i], measure); });
  ErrorSum total;
  for (const ErrorSum& error : errors) {
    total.sum += error.sum;
    total.tokens += error.tokens;
  }
  const double mean = total.sum / static_cast<double>(std::max<std::int64_t>(total.tokens, 1));
  return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
}

}  // namespace qvlm
