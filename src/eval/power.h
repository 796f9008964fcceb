// The power of a gate: how large a loss must be to be found in most runs, on so many items.
#pragma once

#include <cstdint>

namespace qvlm {

// A loss counts as found when a rule that is right 19 times of 20 finds it 4 times of 5.
inline constexpr double kSignificance = 0.05;
inline constexpr double kPower = 0.8;

// Whether a gate calls this a loss: more than `allowed` items net, and more than chance (McNemar,
// two-sided, below kSignificance).
bool is_loss(std::int64_t lost, std::int64_t won, double allowed);

// The smallest true loss of accuracy (share of items) that such a gate finds with kPower.
//   win_rate: share of items that turn right by churn alone; as many turn wrong by it.
//   limit: loss that is allowed, as a share.
// Lost and won items are counted as Poisson variables, each question for itself. 1 when no loss can
// be found: 5 items or less.
double detectable_loss(std::int64_t items, double win_rate, double limit);

// The smallest true share of changed items of which more than `limit` are seen with kPower.
double detectable_share(std::int64_t items, double limit);

// Means with this half-width of their 95 % interval. The smallest that is found where being found
// means that the interval excludes 0, and that the mean is beyond a limit.
double detectable_mean(double half_width);
double detectable_mean(double half_width, double limit);
// How far beyond a limit a mean must be to be seen beyond it with kPower.
double detectable_excess(double half_width);

}  // namespace qvlm
