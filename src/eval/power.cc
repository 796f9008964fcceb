#include "eval/power.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "eval/metrics.h"

namespace qvlm {
namespace {

constexpr double kTwoSided = 1.959963984540054;        // normal quantile of 97.5 %
constexpr double kPowerQuantile = 0.8416212335729143;  // of 80 %

// The exact test, and beyond many flips the normal one with its continuity correction: there the
// two agree and the sum of the exact one grows long.
bool is_significant(std::int64_t lost, std::int64_t won) {
  constexpr std::int64_t kMany = 1000;
  if (lost + won < kMany) return mcnemar_p(lost, won) < kSignificance;
  const double difference = static_cast<double>(lost - won);
  return std::abs(difference) - 1.0 > kTwoSided * std::sqrt(static_cast<double>(lost + won));
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

// P(X >= k) for the same.
std::vector<double> poisson_tail(double mean) {
  std::vector<double> shares = poisson(mean);
  for (std::size_t k = shares.size() - 1; k-- > 0;)
    shares[k] += shares[k + 1];
  return shares;
}

// For each number of won items the fewest lost ones that count as a loss.
std::vector<std::size_t> find_thresholds(std::size_t most_won, double allowed) {
  std::vector<std::size_t> fewest;
  std::size_t lost = 0;  // grows with those won
  for (std::size_t won = 0; won < most_won; ++won) {
    while (!is_loss(static_cast<std::int64_t>(lost), static_cast<std::int64_t>(won), allowed))
      ++lost;
    fewest.push_back(lost);
  }
  return fewest;
}

// The smallest `value` from 0 to 1 at which the growing function `power` reaches kPower; 1 if none.
template <class Function>
double find_power(const Function& power) {
  double low = 0.0, high = 1.0;
  if (power(high) < kPower) return 1.0;
  for (int step = 0; step < 40 && high - low > 1e-6; ++step) {
    const double middle = 0.5 * (low + high);
    (power(middle) < kPower ? low : high) = middle;
  }
  return high;
}

}  // namespace

bool is_loss(std::int64_t lost, std::int64_t won, double allowed) {
  return lost > won && static_cast<double>(lost - won) > allowed && is_significant(lost, won);
}

double detectable_loss(std::int64_t items, double win_rate, double limit) {
  const double n = static_cast<double>(items);
  const std::vector<double> won = poisson(n * win_rate);
  const std::vector<std::size_t> fewest = find_thresholds(won.size(), n * limit);
  return find_power([&](double loss) {
    const std::vector<double> at_least = poisson_tail(n * (loss + win_rate));
    double power = 0.0;
    for (std::size_t k = 0; k < won.size(); ++k) {
      if (fewest[k] < at_least.size()) power += won[k] * at_least[fewest[k]];
    }
    return power;
  });
}

double detectable_share(std::int64_t items, double limit) {
  const double n = static_cast<double>(items);
  const auto fewest = static_cast<std::size_t>(std::floor(n * limit)) + 1;
  return find_power([&](double share) {
    const std::vector<double> at_least = poisson_tail(n * share);
    return fewest < at_least.size() ? at_least[fewest] : 0.0;
  });
}

double detectable_mean(double half_width) {
  return half_width + detectable_excess(half_width);
}

double detectable_mean(double half_width, double limit) {
  return std::max(detectable_mean(half_width), limit + detectable_excess(half_width));
}

double detectable_excess(double half_width) {
  return half_width * kPowerQuantile / kTwoSided;
}

}  // namespace qvlm
