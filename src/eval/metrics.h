// The statistics of a judgement, on plain numbers: no files, no tensors. Formulas:
// docs/evaluation.md.
#pragma once

#include <qvlm/evaluate.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace qvlm {

// count of total with its 95 % Wilson score interval; 0 of 0 is the whole range [0, 1].
// REQUIRES: 0 <= count <= total.
Share make_share(std::int64_t count, std::int64_t total);

// Exact two-sided McNemar test: the chance that a fair coin splits lost + won as unevenly as this
// or more.
double mcnemar_p(std::int64_t lost, std::int64_t won);

// KL(softmax(reference) || softmax(result)) in natural logarithms, summed in double; never below 0,
// and infinite when a logit is not a number. REQUIRES: equal, positive sizes.
double kl_divergence(std::span<const float> reference, std::span<const float> result);

// logits[right] minus the highest of the others; ids equal to `right` do not count. Nothing when
// none is left.
std::optional<double> option_margin(std::span<const float> logits,
                                    std::int32_t right,
                                    std::span<const std::int32_t> options);

// REQUIRES: not empty.
double mean(std::span<const double> values);
double median(std::vector<double> values);
// Mean without the highest `share` of the values (rounded down to whole values).
double upper_trimmed_mean(std::vector<double> values, double share);

}  // namespace qvlm
