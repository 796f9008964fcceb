#include "planner/partition.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "planner/oracle.h"
#include "planner/threshold.h"

namespace qvlm {
namespace {

constexpr auto kBadArgument = ErrorKind::kInvalidArgument;

constexpr std::array kStrategies = {
    std::pair{std::string_view("none"), PlanStrategy::kNone},
    std::pair{std::string_view("fixed"), PlanStrategy::kFixed},
    std::pair{std::string_view("random"), PlanStrategy::kRandom},
    std::pair{std::string_view("error"), PlanStrategy::kError},
    std::pair{std::string_view("entropy"), PlanStrategy::kEntropy},
    std::pair{std::string_view("oracle"), PlanStrategy::kOracle},
};

void check_max_depth(int max_depth) {
  require(max_depth >= 1, kBadArgument, "plan: max_depth must be at least 1, got ", max_depth);
}

void check_dependency(const std::vector<double>& dependency) {
  for (std::size_t k = 0; k < dependency.size(); ++k) {
    require(std::isfinite(dependency[k]), kBadArgument, "plan: the dependency D(", k, ", ", k + 1,
            ") must be finite, got ", dependency[k]);
  }
}

void check_gain(const PlanNumbers& numbers, int max_depth) {
  const auto units = static_cast<std::size_t>(numbers.units);
  require(numbers.gain.size() == units, kBadArgument, "plan: gain must have a row for each of ",
          units, " units, got ", numbers.gain.size());
  for (std::size_t k = 0; k < units; ++k) {
    const std::vector<double>& row = numbers.gain[k];
    const std::size_t want = std::min(static_cast<std::size_t>(max_depth), units - k);
    require(row.size() == want, kBadArgument, "plan: gain[", k, "] must have ", want,
            " values, got ", row.size());
    for (std::size_t d = 0; d < want; ++d) {
      require(std::isfinite(row[d]), kBadArgument, "plan: gain[", k, "][", d,
              "] must be finite, got ", row[d]);
    }
    require(row[0] == 0.0, kBadArgument, "plan: gain[", k, "][0] must be 0, got ", row[0]);
  }
}

// D(first, first + joins): the sum of the terms between neighbours.
double dependency_of(const std::vector<double>& terms, std::int64_t first, int joins) {
  return std::accumulate(terms.begin() + first, terms.begin() + first + joins, 0.0);
}

// "D = 0.84 > 0.61 = 1 * h0; layer 3 would need more than 1.22, has 1.1"
std::string reason_of(const Block& block,
                      const std::vector<double>& terms,
                      double h0,
                      int max_depth) {
  const int joins = block.depth - 1;
  const std::string start = joins == 0 ? "single: "
                                       : join("D = ", dependency_of(terms, block.first, joins),
                                              " > ", joins * h0, " = ", joins, " * h0; ");
  const std::int64_t next = block.first + block.depth;
  if (next > std::ssize(terms)) return start + "no layer is left";
  if (block.depth == max_depth) return join(start, "max_depth ", max_depth, " reached");
  const double longer = dependency_of(terms, block.first, block.depth);
  if (joins == 0) return join(start, "D = ", longer, " <= ", h0, " = h0 with layer ", next);
  return join(start, "layer ", next, " would need more than ", block.depth * h0, ", has ", longer);
}

std::vector<double> draw_terms(std::int64_t units, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> terms(static_cast<std::size_t>(units - 1));
  std::ranges::generate(terms, [&random] { return random.uniform(); });
  return terms;
}

void add_single_units(BlockPlan& plan,
                      std::int64_t first,
                      std::int64_t units,
                      const std::string& reason) {
  for (; first < units; ++first)
    plan.blocks.push_back({first, 1, reason});
}

void plan_fixed(BlockPlan& plan, std::int64_t units, const std::vector<double>& block_costs) {
  double spent = 0.0;
  for (std::int64_t first = 0; first < units; first += plan.blocks.back().depth) {
    const std::int64_t depth = std::min<std::int64_t>(std::ssize(block_costs), units - first);
    const double cost = block_costs[static_cast<std::size_t>(depth - 1)];
    const double single = block_costs[0] * static_cast<double>(units - first - depth);
    if (spent + cost + single > plan.budget) {
      const std::string reason = join("single: layers ", first, " to ", first + depth - 1,
                                      " together would bring the cost to ", spent + cost + single,
                                      " layer-forwards, allowed are ", plan.budget);
      return add_single_units(plan, first, units, reason);
    }
    plan.blocks.push_back({first, static_cast<int>(depth),
                           join("fixed: ", depth, " of at most ", std::ssize(block_costs),
                                " layers, ", cost, " layer-forwards")});
    plan.gain += static_cast<double>(depth - 1);
    spent += cost;
  }
}

void plan_by_threshold(BlockPlan& plan,
                       const PlanOptions& options,
                       const std::vector<double>& terms,
                       const std::vector<double>& block_costs) {
  const int max_depth = options.max_depth;
  plan.h0 = options.h0 ? *options.h0 : find_threshold(terms, block_costs, max_depth, plan.budget);
  plan.blocks = group_units(terms, *plan.h0, max_depth);
  plan.gain = sum_inside(plan.blocks, terms);
}

void plan_measured(BlockPlan& plan,
                   const PlanOptions& options,
                   const PlanNumbers& numbers,
                   const std::vector<double>& block_costs) {
  check_gain(numbers, options.max_depth);
  plan.blocks = find_best_partition(numbers.gain, block_costs, plan.budget);
  for (const Block& block : plan.blocks) {
    const std::vector<double>& gains = numbers.gain[static_cast<std::size_t>(block.first)];
    plan.gain += gains[static_cast<std::size_t>(block.depth - 1)];
  }
}

// Adds blocks, gain and, where there is one, h0.
void lay_blocks(BlockPlan& plan,
                const PlanOptions& options,
                const PlanNumbers& numbers,
                const std::vector<double>& block_costs) {
  switch (options.strategy) {
    case PlanStrategy::kNone:
      return add_single_units(plan, 0, numbers.units, "single: strategy none");
    case PlanStrategy::kFixed:
      return plan_fixed(plan, numbers.units, block_costs);
    case PlanStrategy::kRandom:
      return plan_by_threshold(plan, options, draw_terms(numbers.units, options.seed), block_costs);
    case PlanStrategy::kError:
    case PlanStrategy::kEntropy:
      require(std::ssize(numbers.dependency) == numbers.units - 1, kBadArgument,
              "plan: ", numbers.units, " units have ", numbers.units - 1, " dependencies, got ",
              numbers.dependency.size());
      check_dependency(numbers.dependency);
      return plan_by_threshold(plan, options, numbers.dependency, block_costs);
    case PlanStrategy::kOracle:
      return plan_measured(plan, options, numbers, block_costs);
  }
  fail(ErrorKind::kInternal, "unknown PlanStrategy value");
}

}  // namespace

std::vector<Block> group_units(const std::vector<double>& dependency, double h0, int max_depth) {
  check_max_depth(max_depth);
  require(!std::isnan(h0), kBadArgument, "plan: h0 is not a number");
  check_dependency(dependency);
  std::vector<Block> blocks = grow_blocks(dependency, h0, max_depth);
  for (Block& block : blocks)
    block.reason = reason_of(block, dependency, h0, max_depth);
  return blocks;
}

BlockPlan make_plan(const PlanOptions& options,
                    const PlanNumbers& numbers,
                    const SearchCost& cost) {
  check_max_depth(options.max_depth);
  const std::int64_t units = numbers.units;
  require(units >= 1, kBadArgument, "plan: units must be at least 1, got ", units);
  BlockPlan plan{.strategy = options.strategy, .budget = allowed_forwards(options, cost, units)};
  const double least = cost_of_fixed(cost, units, 1);
  require(plan.budget >= least, kBadArgument, "plan: budget must be at least ", least,
          " layer-forwards, what ", units, " single units take; got ", plan.budget);
  std::vector<double> block_costs;
  while (std::ssize(block_costs) < std::min<std::int64_t>(options.max_depth, units))
    block_costs.push_back(cost.of_block(static_cast<int>(block_costs.size()) + 1));
  lay_blocks(plan, options, numbers, block_costs);
  for (const Block& block : plan.blocks)
    plan.cost += block_costs[static_cast<std::size_t>(block.depth - 1)];
  return plan;
}

std::string_view strategy_name(PlanStrategy strategy) {
  for (const auto& [name, value] : kStrategies) {
    if (value == strategy) return name;
  }
  fail(ErrorKind::kInternal, "unknown PlanStrategy value");
}

std::optional<PlanStrategy> find_strategy(std::string_view name) {
  for (const auto& [known, value] : kStrategies) {
    if (known == name) return value;
  }
  return std::nullopt;
}

}  // namespace qvlm
