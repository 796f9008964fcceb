#include "planner/allocation.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr std::int64_t kMostCombinations = std::int64_t{1} << 22;

// A combination that none of as little cost beats. `below`: its point on the front of the blocks
// before; `choice`: what the block itself gets, the candidates of its units as the digits of a
// number, the last unit's the lowest.
struct Point {
  std::int64_t cost = 0;
  double error = 0.0;
  std::size_t below = 0;
  std::int64_t choice = 0;
};
using Front = std::vector<Point>;  // more cost, less error

// Keeps what no other point beats; of equal ones the first.
void keep_best(Front& points) {
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.error < b.error;
  });
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(points, [&](const Point& point) {
    const bool beaten = point.error >= least;
    least = std::min(least, point.error);
    return beaten;
  });
}

// All combinations of a block, one unit after the other.
class BlockFront {
 public:
  explicit BlockFront(const AllocationBlock& block) : block_(block) {
    std::int64_t combinations = 1;
    std::size_t row = 0;
    for (const auto& candidates : block.cost) {
      combinations *= static_cast<std::int64_t>(candidates.size());
      require(combinations <= kMostCombinations, ErrorKind::kInvalidArgument,
              "precision: a block of the plan has more than ", kMostCombinations,
              " combinations; plan shorter blocks or give fewer candidates");
      rows_.push_back(row);
      row += candidates.size();
    }
  }

  Front make() {
    add({});
    keep_best(front_);
    return std::move(front_);
  }

 private:
  // Goes on with the next unit.
  void add(const Point& begun) {
    const std::size_t unit = chosen_.size();
    if (unit == block_.cost.size()) {
      front_.push_back(begun);
      front_.back().error = std::max(begun.error, 0.0);  // a sum of measurements may say otherwise
      if (front_.size() >= kPruneAt) keep_best(front_);
      return;
    }
    const std::vector<std::int64_t>& cost = block_.cost[unit];
    for (std::size_t candidate = 0; candidate < cost.size(); ++candidate) {
      const std::size_t row = rows_[unit] + candidate;
      const Point next{begun.cost + cost[candidate], begun.error + added_error(row), 0,
                       begun.choice * std::ssize(cost) + static_cast<std::int64_t>(candidate)};
      chosen_.push_back(row);
      add(next);
      chosen_.pop_back();
    }
  }

  double added_error(std::size_t row) const {
    double error = block_.error[row][row];
    for (const std::size_t other : chosen_)
      error += 2.0 * block_.error[other][row];
    return error;
  }

  static constexpr std::size_t kPruneAt = 1 << 16;
  const AllocationBlock& block_;
  std::vector<std::size_t> rows_;    // of `error`, where the candidates of each unit begin
  std::vector<std::size_t> chosen_;  // rows of the units so far
  Front front_;
};

std::vector<int> digits_of(std::int64_t choice, const AllocationBlock& block) {
  std::vector<int> digits(block.cost.size());
  for (std::size_t unit = digits.size(); unit-- > 0; choice /= std::ssize(block.cost[unit]))
    digits[unit] = static_cast<int>(choice % std::ssize(block.cost[unit]));
  return digits;
}

// The fronts of the blocks up to each one; points above `cost` are left out.
std::vector<Front> join_blocks(const std::vector<AllocationBlock>& blocks, std::int64_t cost) {
  std::vector<Front> fronts = {{Point{}}};
  for (const AllocationBlock& block : blocks) {
    const Front own = BlockFront(block).make();
    const Front& before = fronts.back();
    Front joined;
    for (std::size_t i = 0; i < before.size(); ++i) {
      for (const Point& point : own) {
        if (before[i].cost + point.cost > cost) break;  // more cost only from here on
        joined.push_back(
            {before[i].cost + point.cost, before[i].error + point.error, i, point.choice});
      }
    }
    keep_best(joined);
    fronts.push_back(std::move(joined));
  }
  return fronts;
}

//   last: the point of the last front.
Allocation walk_back(const std::vector<AllocationBlock>& blocks,
                     const std::vector<Front>& fronts,
                     std::size_t last) {
  Allocation allocation;
  allocation.cost = fronts.back()[last].cost;
  allocation.error = fronts.back()[last].error;
  allocation.choices.resize(blocks.size());
  for (std::size_t i = blocks.size(); i > 0; --i) {
    const Point& point = fronts[i][last];
    allocation.choices[i - 1] = digits_of(point.choice, blocks[i - 1]);
    last = point.below;
  }
  return allocation;
}

std::int64_t least_cost(const std::vector<AllocationBlock>& blocks) {
  std::int64_t cost = 0;
  for (const AllocationBlock& block : blocks) {
    for (const auto& candidates : block.cost)
      cost += *std::min_element(candidates.begin(), candidates.end());
  }
  return cost;
}

}  // namespace

Allocation allocate_within_cost(const std::vector<AllocationBlock>& blocks, std::int64_t cost) {
  const std::int64_t least = least_cost(blocks);
  require(least <= cost, ErrorKind::kInvalidArgument, "precision: the smallest candidates cost ",
          least, ", the target leaves them ", cost);
  const std::vector<Front> fronts = join_blocks(blocks, cost);
  return walk_back(blocks, fronts, fronts.back().size() - 1);
}

Allocation allocate_within_error(const std::vector<AllocationBlock>& blocks, double error) {
  const std::vector<Front> fronts = join_blocks(blocks, std::numeric_limits<std::int64_t>::max());
  const Front& all = fronts.back();
  require(all.back().error <= error, ErrorKind::kInvalidArgument,
          "precision: no combination of candidates has a predicted KL of at most ", error,
          "; the least is ", all.back().error);
  const auto found = std::partition_point(all.begin(), all.end(),
                                          [&](const Point& point) { return point.error > error; });
  return walk_back(blocks, fronts, static_cast<std::size_t>(found - all.begin()));
}

}  // namespace qvlm
