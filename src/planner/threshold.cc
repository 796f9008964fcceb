#include "planner/threshold.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>

namespace qvlm {
namespace {

// The depth of the block that equation 7 makes from unit `first`.
int grown_depth(const std::vector<double>& terms, std::int64_t first, double h0, int max_depth) {
  double sum = 0.0;
  int depth = 1;
  for (; depth < max_depth && first + depth <= std::ssize(terms); ++depth) {
    sum += terms[static_cast<std::size_t>(first + depth - 1)];
    if (!(sum > depth * h0)) break;
  }
  return depth;
}

// The averages of runs of terms, in falling order: grown_depth changes at these values of h0 only.
std::vector<double> averages_of_runs(const std::vector<double>& terms, int max_depth) {
  std::vector<double> averages;
  for (std::int64_t first = 0; first < std::ssize(terms); ++first) {
    double sum = 0.0;
    for (int joins = 1; joins < max_depth && first + joins <= std::ssize(terms); ++joins) {
      sum += terms[static_cast<std::size_t>(first + joins - 1)];
      averages.push_back(sum / joins);
    }
  }
  std::ranges::sort(averages, std::greater<>());
  return averages;
}

// Whether more than rounding lies between two averages: a sum of n terms of one sign is off by at
// most n * 1.1e-16 of it. Plans shall not hang on noise.
bool are_distinct(double high, double low) {
  return high - low > 1e-12 * std::max(std::abs(high), std::abs(low));
}

// One threshold for each way to group, in falling order: between neighbouring averages, and one on
// either side of them all.
std::vector<double> thresholds_to_try(const std::vector<double>& terms, int max_depth) {
  const std::vector<double> averages = averages_of_runs(terms, max_depth);
  if (averages.empty()) return {0.0};
  const double high = averages.front();
  const double low = averages.back();
  const double reach = 0.5 * std::max(std::abs(high), std::abs(low));
  std::vector<double> thresholds = {high + reach};
  for (std::size_t i = 1; i < averages.size(); ++i) {
    if (are_distinct(averages[i - 1], averages[i]))
      thresholds.push_back(std::midpoint(averages[i - 1], averages[i]));
  }
  thresholds.push_back(low > 0.0 ? 0.5 * low : low - reach);
  return thresholds;
}

}  // namespace

std::vector<Block> grow_blocks(const std::vector<double>& terms, double h0, int max_depth) {
  std::vector<Block> blocks;
  for (std::int64_t first = 0; first <= std::ssize(terms); first += blocks.back().depth)
    blocks.push_back({first, grown_depth(terms, first, h0, max_depth), ""});
  return blocks;
}

double sum_inside(const std::vector<Block>& blocks, const std::vector<double>& terms) {
  double sum = 0.0;
  for (const Block& block : blocks) {
    for (std::int64_t k = block.first; k + 1 < block.first + block.depth; ++k)
      sum += terms[static_cast<std::size_t>(k)];
  }
  return sum;
}

double find_threshold(const std::vector<double>& terms,
                      const std::vector<double>& block_costs,
                      int max_depth,
                      double budget) {
  double best = 0.0;
  std::optional<std::pair<double, double>> most;                 // sum inside, minus cost
  for (const double h0 : thresholds_to_try(terms, max_depth)) {  // the first one joins nothing
    const std::vector<Block> blocks = grow_blocks(terms, h0, max_depth);
    double cost = 0.0;
    for (const Block& block : blocks)
      cost += block_costs[static_cast<std::size_t>(block.depth - 1)];
    const std::pair score(sum_inside(blocks, terms), -cost);
    if (cost > budget || (most && score <= *most)) continue;
    most = score;
    best = h0;
  }
  return best;
}

}  // namespace qvlm
