// Who made a report's numbers: model, data, tool and machine.
#pragma once

#include <qvlm/evaluate.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "eval/dataset.h"

namespace qvlm {

// Tool, CPU and threads of this process; no hashes.
ReportIdentity identify_run();

// SHA-256 over the names and SHA-256 of all files in a model folder. Throws kNotFound or kIo.
std::string hash_model(const std::filesystem::path& folder);
// The same over data.jsonl, meta.json and the images of the first `items` items.
std::string hash_data(const Dataset& dataset, std::size_t items);

}  // namespace qvlm
