#include "eval/bootstrap.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/random.h"

namespace qvlm {

Interval bootstrap_mean(std::span<const double> values, std::span<const std::size_t> groups) {
  assert(values.size() == groups.size() && !values.empty());
  struct Group {
    double sum = 0.0;
    double count = 0.0;
  };
  std::vector<Group> sums(*std::ranges::max_element(groups) + 1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    sums[groups[i]].sum += values[i];
    sums[groups[i]].count += 1.0;
  }
  Random random(0);
  std::vector<double> means;
  means.reserve(kBootstrapDraws);
  for (int draw = 0; draw < kBootstrapDraws; ++draw) {
    Group all;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const Group& group = sums[random.below(sums.size())];
      all.sum += group.sum;
      all.count += group.count;
    }
    means.push_back(all.sum / all.count);
  }
  std::ranges::sort(means);
  constexpr std::size_t kTail = kBootstrapDraws / 40;  // 2.5 %
  return {means[kTail], means[kBootstrapDraws - 1 - kTail]};
}

Interval median_range(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  double tail = 0.0, term = std::pow(0.5, static_cast<double>(n));  // P(heads = k)
  std::size_t k = 0;
  while (k < n / 2 && tail + term <= 0.025) {
    tail += term;
    ++k;
    term *= static_cast<double>(n - k + 1) / static_cast<double>(k);
  }
  const std::size_t skipped = k == 0 ? 0 : k - 1;
  return {values[skipped], values[n - 1 - skipped]};
}

}  // namespace qvlm
