// Which item of one report is which of another.
#pragma once

#include <qvlm/evaluate.h>

#include <cstddef>
#include <vector>

namespace qvlm {

// For every item of `result` the index of the same item in `reference`. Throws kInvalidArgument
// unless both asked the same items, by the same protocol and for answers of the same length.
std::vector<std::size_t> pair_items(const Report& result, const Report& reference);

}  // namespace qvlm
