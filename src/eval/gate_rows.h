// The rows of a verdict: how each quantity is compared, and when that is a failure. Which limits
// there are and what the two reports have in common is gate.cc.
#pragma once

#include <qvlm/gate.h>

#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// One item in both reports.
struct ItemPair {
  const ItemResult* before = nullptr;  // in the reference
  const ItemResult* after = nullptr;
  std::optional<double> logit_kl;
};

// Right answers lost less won. A failure is more than the limit and more than chance, by McNemar's
// test and by an interval over images that excludes 0; a limit below what so few items can show is
// not tested.
GateRow accuracy_row(std::string what,
                     const std::vector<ItemPair>& pairs,
                     std::optional<double> limit);
// Share of items with another answer. A failure is more than the limit; one that allows less than
// two items, but some, is not tested.
GateRow changed_answers_row(const std::vector<ItemPair>& pairs, std::optional<double> limit);

// Means over items. A divergence fails when it is beyond the limit, a margin or a length when also
// its interval excludes 0. Not tested: a limit that is smaller than the uncertainty, fewer than 30
// images, items that could not be compared.
GateRow option_kl_row(const std::vector<ItemPair>& pairs, std::optional<double> limit);
//   why_missing: for pairs without logits.
GateRow logit_kl_row(const std::vector<ItemPair>& pairs,
                     std::optional<double> limit,
                     const std::string& why_missing);
GateRow margin_row(const std::vector<ItemPair>& pairs, std::optional<double> limit);
GateRow length_row(const std::vector<ItemPair>& pairs, std::optional<double> limit);

// Bytes that do not vary from run to run; 0 stands for unknown.
GateRow bytes_row(std::string what,
                  std::int64_t reference,
                  std::int64_t result,
                  const Limits& limits);
GateRow memory_row(const Report& result, const Report& reference, std::optional<double> limit);
// Medians of the rounds, and the range that the medians might have. A failure is beyond the limit
// and slower for sure; what is neither that nor within the limit for sure is not tested.
// `reference` and `result` may be empty: not measured.
GateRow speed_row(std::string what,
                  const std::vector<double>& reference,
                  const std::vector<double>& result,
                  const Limits& limits,
                  bool same_cpu);

}  // namespace qvlm
