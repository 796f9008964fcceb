// Looking at a model before hours are spent on it: how much neighbouring layers depend on each
// other, what rounding each costs, what joint search would gain, and what every planning strategy
// would make of it. Nothing is quantized. Formulas: docs/method.md.
#pragma once

#include <qvlm/quantize.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// One layer of the decoder or the vision tower, in the order in which they run.
struct LayerAnalysis {
  std::string name;            // "decoder.layers.3"
  double entropy = 0.0;        // of its output's codes, nats per element
  double dependency = 0.0;     // D(k, k+1): conditional entropy of the next layer's codes given its
                               // own; 0 for the last layer
  double level_share = 0.0;    // of the most frequent code; near 1: outliers collapsed the codes
  double forward_seconds = 0;  // one float forward on the calibration set
  double error = 0.0;          // relative error at its output when only it is rounded; decoder only
};

// Joint against greedy search from one decoder layer on (the discretization error difference).
struct JointGainAnalysis {
  std::int64_t first = 0;
  // By depth, from 1: errors at the last layer's output.
  std::vector<double> greedy_error, joint_error;
};

struct PlannedBlock {
  std::int64_t first = 0;
  int depth = 1;
  std::string reason;
};

// What one strategy would do within the budget.
struct PlanAnalysis {
  std::string strategy;
  std::optional<double> h0;
  double cost = 0.0;  // layer-forwards
  double gain = 0.0;  // in the strategy's own numbers
  std::vector<PlannedBlock> blocks;
};

struct Analysis {
  std::string model, data, recipe;
  CalibrationReport calibration;
  double tau = 0.25;
  double budget = 0.0;  // layer-forwards allowed to every plan
  int max_depth = 3;
  std::vector<LayerAnalysis> decoder, vision;
  std::vector<JointGainAnalysis> joint_gains;  // empty unless asked for
  std::vector<PlanAnalysis> plans;
  double seconds = 0.0;
};

struct AnalyzeOptions {
  bool joint_gains = false;  // measure them, and plan by them too; takes most of the time
  // A safetensors file for the statistics of what every linear of the float decoder is given: low,
  // high and squares of each channel, and a histogram of magnitudes. Empty: none.
  std::filesystem::path statistics = {};
};

// Runs the calibration samples of `data` through the model and measures. The recipe gives schemes,
// candidates, calibration and plan options. The decoder is the float one, given what the tower as
// the recipe quantizes it makes of the images; `vision_encoder` is not run, so a plan that
// quantize() makes behind it may differ. Throws as quantize() does.
Analysis analyze(const std::filesystem::path& model,
                 const std::filesystem::path& data,
                 const Recipe& recipe,
                 const AnalyzeOptions& options = {},
                 const ProgressCallback& progress = {});

// All numbers as one JSON object; what is infinite becomes null.
std::string analysis_to_json(const Analysis& analysis);

// Writes `folder`/analysis.json and `folder`/index.html, a page with plots that needs nothing else.
// The folder is made if it is missing. Throws kIo.
void write_analysis(const Analysis& analysis, const std::filesystem::path& folder);

}  // namespace qvlm
