#include "planner/budget.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// One step per unit: every beginning that was kept runs with each candidate of that unit.
double cost_of_tree(int candidates, double kept, int depth) {
  double forwards = 0.0;
  double beginnings = 1.0;
  for (int unit = 0; unit < depth; ++unit) {
    forwards += beginnings * candidates;
    beginnings = std::min(beginnings * candidates, kept);
  }
  return forwards;
}

// A change in unit k runs that unit and the depth - 1 - k units after it.
double cost_of_descent(const SearchCost& cost, int depth) {
  const double rests = 0.5 * depth * (depth + 1.0);
  return 1.0 * depth * cost.candidates +
         1.0 * cost.sweeps * cost.coordinates * (cost.candidates - 1) * rests;
}

}  // namespace

double SearchCost::of_block(int depth) const {
  const auto kind = ErrorKind::kInvalidArgument;
  require(depth >= 1, kind, "depth of a block must be at least 1, got ", depth);
  require(candidates >= 1, kind, "a unit needs at least 1 candidate, got ", candidates);
  require(beam_width >= 1, kind, "beam_width must be at least 1, got ", beam_width);
  require(coordinates >= 1, kind, "a unit needs at least 1 coordinate, got ", coordinates);
  require(sweeps >= 0, kind, "sweeps must be at least 0, got ", sweeps);
  switch (method) {
    case SearchMethod::kExhaustive:
      return cost_of_tree(candidates, kNoLimit, depth);
    case SearchMethod::kBeam:
      return cost_of_tree(candidates, beam_width, depth);
    case SearchMethod::kDescent:
      return cost_of_descent(*this, depth);
  }
  fail(ErrorKind::kInternal, "unknown SearchMethod value");
}

double cost_of_fixed(const SearchCost& cost, std::int64_t units, int depth) {
  require(depth >= 1, ErrorKind::kInvalidArgument, "depth of blocks must be at least 1, got ",
          depth);
  double forwards = 0.0;
  for (std::int64_t first = 0; first < units; first += depth)
    forwards += cost.of_block(static_cast<int>(std::min<std::int64_t>(depth, units - first)));
  return forwards;
}

double allowed_forwards(const PlanOptions& options, const SearchCost& cost, std::int64_t units) {
  const auto kind = ErrorKind::kInvalidArgument;
  require(!options.h0 || !options.budget, kind, "plan: give h0 or budget, not both");
  if (options.h0) {
    require(!std::isnan(*options.h0), kind, "plan: h0 is not a number");
    return kNoLimit;
  }
  if (options.budget) {
    require(!std::isnan(*options.budget), kind, "plan: budget is not a number");
    return *options.budget;
  }
  const double share = options.budget_share;
  require(share >= 0.0 && share <= 1.0, kind, "plan: budget_share must be 0 to 1, got ", share);
  const double most = cost_of_fixed(cost, units, options.max_depth);
  require(std::isfinite(most), kind, "plan: blocks of max_depth ", options.max_depth,
          " take more layer-forwards than can be counted; give budget, not budget_share");
  return std::lerp(cost_of_fixed(cost, units, 1), most, share);
}

}  // namespace qvlm
