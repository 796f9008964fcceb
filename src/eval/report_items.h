// The items of a report in its file: one line each, so that a file of thousands can be read, and
// compared, by line. Lists of options, of which there are few, are written once.
#pragma once

#include <qvlm/evaluate.h>

#include <string>
#include <vector>

#include "base/json.h"

namespace qvlm {

// The text of a report's file: `report` with "option_lists" and "items" as its last members.
std::string with_items(const Json& report, const std::vector<ItemResult>& items);

// Throws kCorrupt, naming file and item: an id that repeats, options without their logits.
std::vector<ItemResult> read_items(const Json& report);

}  // namespace qvlm
