// The options of a question as the tokens that would begin them: what margins and option logits are
// read at.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/dataset.h"
#include "text/tokenizer.h"

namespace qvlm {

// Options of one item whose first tokens differ; of equal ones the right option, else the first.
struct ItemOptions {
  std::vector<std::string> names;
  std::vector<std::int32_t> ids;      // one a name
  std::optional<std::int32_t> right;  // nothing: the right option adds no token
};

// One an item of the data set, in its order.
std::vector<ItemOptions> find_option_tokens(const Dataset& dataset, const Tokenizer& tokenizer);

}  // namespace qvlm
