#include "planner/oracle.h"

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace qvlm {
namespace {

using Rows = std::vector<std::vector<double>>;

// A partition of the first units, as its last block and what stands before it.
struct Prefix {
  double cost = 0.0;
  double gain = 0.0;
  std::size_t depth = 0;   // of the last block
  std::size_t before = 0;  // place in the front of the units before the last block
};

// Partitions of the same units of which none is both cheaper and better than another: cost and gain
// rise strictly. What follows depends on the units only, so no other partition can become best.
using Front = std::vector<Prefix>;

Front keep_best(Front prefixes) {
  std::ranges::sort(prefixes, {}, [](const Prefix& prefix) {
    return std::tuple(prefix.cost, -prefix.gain, prefix.depth, prefix.before);
  });
  Front best;
  for (const Prefix& prefix : prefixes) {
    if (best.empty() || prefix.gain > best.back().gain) best.push_back(prefix);
  }
  return best;
}

// The front of the first fronts.size() units.
Front extend(const std::vector<Front>& fronts,
             const Rows& gain,
             const std::vector<double>& block_costs,
             double budget) {
  const std::size_t units = fronts.size();
  Front prefixes;
  for (std::size_t depth = 1; depth <= std::min(units, block_costs.size()); ++depth) {
    const std::size_t first = units - depth;
    for (std::size_t before = 0; before < fronts[first].size(); ++before) {
      const Prefix& start = fronts[first][before];
      const double cost = start.cost + block_costs[depth - 1];
      if (cost > budget) break;
      prefixes.push_back({cost, start.gain + gain[first][depth - 1], depth, before});
    }
  }
  return keep_best(std::move(prefixes));
}

std::string reason_of(const Block& block, const Rows& gain, const std::vector<double>& costs) {
  const std::vector<double>& gains = gain[static_cast<std::size_t>(block.first)];
  const auto depth = static_cast<std::size_t>(block.depth);
  if (depth > 1) {
    return join("measured gain ", gains[depth - 1], " for ", costs[depth - 1],
                " layer-forwards instead of ", block.depth * costs[0]);
  }
  if (gains.size() == 1) return join("single: ", costs[0], " layer-forwards");
  return join("single: with layer ", block.first + 1, " the gain would be ", gains[1], " for ",
              costs[1], " layer-forwards instead of ", 2 * costs[0]);
}

}  // namespace

std::vector<Block> find_best_partition(const Rows& gain,
                                       const std::vector<double>& block_costs,
                                       double budget) {
  std::vector<Front> fronts = {{Prefix{}}};
  while (fronts.size() <= gain.size())
    fronts.push_back(extend(fronts, gain, block_costs, budget));
  std::vector<Block> blocks;
  std::size_t place = fronts.back().size() - 1;  // the largest gain
  for (std::size_t units = gain.size(); units > 0;) {
    const Prefix& prefix = fronts[units][place];
    units -= prefix.depth;
    place = prefix.before;
    Block block{static_cast<std::int64_t>(units), static_cast<int>(prefix.depth), ""};
    block.reason = reason_of(block, gain, block_costs);
    blocks.push_back(std::move(block));
  }
  std::ranges::reverse(blocks);
  return blocks;
}

}  // namespace qvlm
