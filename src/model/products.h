// What the matrix products of a model are, counted: the honest label of reports.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <qvlm/session.h>
#include "io/checkpoint.h"
#include "io/hf_config.h"

namespace qvlm {

// Linears by what their product does under an execution: {"integer": 84, "float": 49}.
std::map<std::string, std::int64_t> count_products(const Checkpoint& checkpoint,
                                                   const ModelConfig& config,
                                                   Execution execution);

}  // namespace qvlm
