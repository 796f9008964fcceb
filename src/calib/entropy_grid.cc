#include "calib/entropy_grid.h"

#include "calib/statistics.h"

namespace qvlm {
namespace {

constexpr double kStartPower = 0.5;  // p of the L_p distance that start ranges minimize
constexpr int kEntropyBits = 4;
static_assert(1 << kEntropyBits == kEntropyLevels);

}  // namespace

EntropyGrid make_entropy_grid(const std::vector<at::Tensor>& states, double tau) {
  InputStatistics statistics;
  for (const at::Tensor& state : states)
    statistics.add(state);
  const double range = statistics.lp_range(kEntropyBits, kStartPower);
  return {range > 0.0 ? range / ((kEntropyLevels - 1) / 2.0) : 1.0, tau};
}

}  // namespace qvlm
