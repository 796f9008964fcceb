// What a search found, for people: printed by `quantize` when it ends and by `inspect` from the
// checkpoint alone.
#pragma once

#include <qvlm/quantize.h>

#include <string>

namespace qvlm::cli {

// "calibration  64 samples, 4 970 tokens: ..."
std::string calibration_text(const CalibrationReport& report);
// One row a block, then the data, the plan and how often each candidate won.
std::string search_text(const SearchReport& report);
// Where the time of the run went; times are not in a checkpoint.
std::string cost_text(const SearchReport& report);

}  // namespace qvlm::cli
