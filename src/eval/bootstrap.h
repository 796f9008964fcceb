// How far a mean or a median might lie from what was measured: paired bootstrap, had other images
// been asked about, where questions of one image are drawn together as they share its luck; and
// order statistics for a few repeated measurements.
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

// The 95 % range of a median, whatever the distribution: from the k-th value to the k-th from the
// end, where a fair coin thrown as often as there are values shows heads less than k times with at
// most 2.5 %. REQUIRES: not empty.
Interval median_range(std::vector<double> values);

}  // namespace qvlm
