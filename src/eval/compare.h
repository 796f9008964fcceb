// Which item of one report is which of another.
#pragma once

#include <qvlm/evaluate.h>

#include <cstddef>
#include <optional>
#include <vector>

namespace qvlm {

// For every item of `result` the index of the same item in `reference`. Throws kInvalidArgument
// unless both asked the same items, by the same protocol and for answers of the same length.
std::vector<std::size_t> pair_items(const Report& result, const Report& reference);

// Whether the logits file of a report is there, and is the one that was written with it.
bool has_own_logits(const Report& report);

// KL(reference || result) of each item at the first answer position, in nats; nothing when one side
// kept no logits or the vocabularies differ in size. Throws kNotFound or kCorrupt for a logits file
// that cannot be read.
std::optional<std::vector<double>> logit_divergences(const Report& result,
                                                     const Report& reference,
                                                     const std::vector<std::size_t>& partners);

}  // namespace qvlm
