#include "eval/metrics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

namespace qvlm {
namespace {

// log of the sum of exp(values), shifted by the maximum so that nothing overflows.
double log_sum_exp(std::span<const float> values) {
  const double top = *std::max_element(values.begin(), values.end());
  double sum = 0.0;
  for (const float value : values)
    sum += std::exp(value - top);
  return top + std::log(sum);
}

}  // namespace

Share make_share(std::int64_t count, std::int64_t total) {
  assert(0 <= count && count <= total);
  if (total == 0) return {0, 0, 0.0, 0.0, 1.0};
  constexpr double kZ = 1.959963984540054;  // 97.5 % quantile of the normal distribution
  const double n = static_cast<double>(total);
  const double p = static_cast<double>(count) / n;
  const double scale = 1.0 / (1.0 + kZ * kZ / n);
  const double centre = scale * (p + kZ * kZ / (2.0 * n));
  const double half = scale * kZ * std::sqrt(p * (1.0 - p) / n + kZ * kZ / (4.0 * n * n));
  // At the ends the bound is exactly 0 or 1; rounding must not move it inside.
  const double low = count == 0 ? 0.0 : centre - half;
  const double high = count == total ? 1.0 : centre + half;
  return {count, total, p, low, high};
}

double mcnemar_p(std::int64_t lost, std::int64_t won) {
  const double n = static_cast<double>(lost + won);
  double tail = 0.0;  // P(X <= min(lost, won)), X ~ Binomial(n, 1/2)
  for (std::int64_t k = 0; k <= std::min(lost, won); ++k) {
    const double i = static_cast<double>(k);
    const double log_choose = std::lgamma(n + 1) - std::lgamma(i + 1) - std::lgamma(n - i + 1);
    tail += std::exp(log_choose - n * std::log(2.0));
  }
  return std::min(1.0, 2.0 * tail);
}

double kl_divergence(std::span<const float> reference, std::span<const float> result) {
  assert(reference.size() == result.size() && !reference.empty());
  const double reference_norm = log_sum_exp(reference);
  const double result_norm = log_sum_exp(result);
  double sum = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - reference_norm;
    const double log_q = result[i] - result_norm;
    const double p = std::exp(log_p);
    if (p != 0.0) sum += p * (log_p - log_q);  // a masked token (-inf) on the left adds nothing
  }
  // Rounding can leave -1e-17; logits that are not numbers count as infinitely far.
  return std::isnan(sum) ? std::numeric_limits<double>::infinity() : std::max(sum, 0.0);
}

std::optional<double> option_margin(std::span<const float> logits,
                                    std::int32_t right,
                                    std::span<const std::int32_t> options) {
  std::optional<float> best;
  for (const std::int32_t id : options) {
    if (id == right) continue;
    const float logit = logits[static_cast<std::size_t>(id)];
    best = best ? std::max(*best, logit) : logit;
  }
  if (!best) return std::nullopt;
  return static_cast<double>(logits[static_cast<std::size_t>(right)]) - *best;
}

double mean(std::span<const double> values) {
  assert(!values.empty());
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  assert(!values.empty());
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

double upper_trimmed_mean(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto dropped = static_cast<std::size_t>(share * static_cast<double>(values.size()));
  values.resize(std::max<std::size_t>(values.size() - dropped, 1));
  return mean(values);
}

}  // namespace qvlm
