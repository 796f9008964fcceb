#include "eval/power.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "eval/metrics.h"

namespace qvlm {
namespace {

constexpr double kOneSided = 1.959963984540054;        // normal quantile of 97.5 %
constexpr double kPowerQuantile = 0.8416212335729143;  // of 80 %

// The exact test, and beyond a few thousand flips the normal one with its continuity correction:
// there the two agree and the sum of the exact one grows long.
bool is_significant(std::int64_t lost, std::int64_t won) {
  constexpr std::int64_t kMany = 2000;
  if (lost + won < kMany) return mcnemar_p(lost, won) < kSignificance;
  const double difference = static_cast<double>(lost - won);
  return std::abs(difference) - 1.0 > kOneSided * std::sqrt(static_cast<double>(lost + won));
}

// P(X = k) for k = 0, 1, ... up to where the tail is below 1e-12.
std::vector<double> poisson(double mean) {
  std::vector<double> shares;
  const double top = mean + 8.0 * std::sqrt(mean) + 30.0;
  for (double k = 0.0; k <= top; ++k)
    shares.push_back(mean == 0.0 ? (k == 0.0 ? 1.0 : 0.0)
                                 : std::exp(k * std::log(mean) - mean - std::lgamma(k + 1.0)));
  return shares;
}

double power_at(double loss, std::int64_t items, double win_rate, double limit) {
  const double n = static_cast<double>(items);
  const std::vector<double> won = poisson(n * win_rate);
  std::vector<double> at_least = poisson(n * (loss + win_rate));  // P(X >= k)
  for (std::size_t k = at_least.size() - 1; k-- > 0;)
    at_least[k] += at_least[k + 1];
  double power = 0.0;
  std::size_t enough = 0;  // fewest lost items that count, which grow with those won
  for (std::size_t k = 0; k < won.size(); ++k) {
    while (enough < at_least.size() &&
           !is_loss(static_cast<std::int64_t>(enough), static_cast<std::int64_t>(k), n * limit))
      ++enough;
    if (enough < at_least.size()) power += won[k] * at_least[enough];
  }
  return power;
}

}  // namespace

bool is_loss(std::int64_t lost, std::int64_t won, double allowed) {
  return lost > won && static_cast<double>(lost - won) > allowed && is_significant(lost, won);
}

double detectable_loss(std::int64_t items, double win_rate, double limit) {
  double low = 0.0, high = 1.0;
  if (power_at(high, items, win_rate, limit) < kPower) return 1.0;
  for (int step = 0; step < 40 && high - low > 1e-6; ++step) {
    const double middle = 0.5 * (low + high);
    (power_at(middle, items, win_rate, limit) < kPower ? low : high) = middle;
  }
  return high;
}

double detectable_mean(double half_width) {
  return half_width * (1.0 + kPowerQuantile / kOneSided);
}

double detectable_mean(double half_width, double limit) {
  return std::max(detectable_mean(half_width), limit + half_width * kPowerQuantile / kOneSided);
}

}  // namespace qvlm
