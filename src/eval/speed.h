// Speed as a multiple of float: the model and its float execution run the same prompt in turns, so
// that a busy machine slows both, and the ratio says something on another day. On one thread:
// several wait for each other, and on a busy machine mostly for that.
#pragma once

#include <qvlm/evaluate.h>

#include <filesystem>
#include <optional>

#include "eval/dataset.h"
#include "runtime/engine.h"

namespace qvlm {

// Runs the first item of the data set. Loads `model` once more, in float; nothing, and a warning in
// the log, where the memory for that is not there. Rounds go on until there are kLeastSpeedRounds
// and the medians are known to a twentieth; once kMostSpeedSeconds are over, the third is the last.
// A round of a large model is a prompt and kSpeedTokens tokens of both. `progress` is called before
// every round; what it throws ends the measurement.
std::optional<SpeedReport> measure_speed(const Engine& engine,
                                         const std::filesystem::path& model,
                                         const Dataset& dataset,
                                         const EvaluateOptions& options,
                                         const ProgressCallback& progress);

inline constexpr int kLeastSpeedRounds = 9;
inline constexpr double kMostSpeedSeconds = 25.0;
inline constexpr int kSpeedTokens = 16;

}  // namespace qvlm
