// Words and values that reports and the command line write into JSON alike.
#pragma once

#include <qvlm/evaluate.h>

#include "base/json.h"

namespace qvlm {

// "packed", "simulated", "float".
const char* execution_name(Execution execution);

Json to_json(const Share& share);
// Report::products as an object.
Json products_json(const std::map<std::string, std::int64_t>& products);

}  // namespace qvlm
