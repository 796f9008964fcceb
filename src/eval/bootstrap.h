// Paired bootstrap: how far the mean of a difference might lie from what was measured, had other
// images been asked about. Questions of one image are drawn together, as they share its luck.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qvlm {

struct Interval {
  double low = 0.0, high = 0.0;

  double half_width() const { return 0.5 * (high - low); }
};

inline constexpr int kBootstrapDraws = 4000;

// The 95 % percentile interval of the mean of `values` when groups are drawn with replacement.
//   groups: which group each value belongs to, numbered from 0 without gaps.
// Same values, same interval. REQUIRES: as many groups as values, at least one.
Interval bootstrap_mean(std::span<const double> values, std::span<const std::size_t> groups);

}  // namespace qvlm
