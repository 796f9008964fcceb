#include "search/neighbour_entropy.h"

#include "calib/entropy_grid.h"

namespace qvlm {
namespace {

at::Tensor flatten(const States& states) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& state : states)
    flat.push_back(state.flatten());
  return at::cat(flat);
}

}  // namespace

void NeighbourEntropy::add(const States& output) {
  const EntropyGrid grid = make_entropy_grid(output, tau_);
  const at::Tensor values = flatten(output);
  level_share_.push_back(largest_level_share(values, grid));
  if (below_.defined()) {
    const at::Tensor table = joint_table(below_, grid_below_, values, grid);
    dependency_.push_back(conditional_entropy(table).item<double>());
    const at::Tensor own = table.sum(0);
    entropy_.push_back(-at::special_xlogy(own, own).sum().item<double>());
  } else {
    const at::Tensor own = joint_table(values, grid, values, grid).sum(0);
    entropy_.push_back(-at::special_xlogy(own, own).sum().item<double>());
  }
  below_ = values;
  grid_below_ = grid;
}

}  // namespace qvlm
