// Quantization after training: a Hugging Face folder in, a compressed-tensors folder out.
#pragma once

#include <qvlm/recipe.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// What one linear became.
struct LinearReport {
  std::string name;
  std::int64_t out = 0, in = 0;
  std::string scheme;           // "w4 g128 a8", "float"
  double relative_error = 0.0;  // |W_q - W|^2 / |W|^2; 0 for float
};

// What a run took of the calibration data.
struct CalibrationReport {
  std::int64_t samples = 0;
  std::int64_t image_tokens = 0, text_tokens = 0, answer_tokens = 0;  // of all samples
  std::string data_sha256;  // of the whole manifest and its images

  std::int64_t tokens() const { return image_tokens + text_tokens + answer_tokens; }
  bool operator==(const CalibrationReport&) const = default;
};

// Relative errors of the states of each kind of token; 0 where there is no such token. `answer`: at
// the positions whose logits predict a token of the answer.
struct TokenErrors {
  double image = 0.0, text = 0.0, answer = 0.0;
};

// What the search did to one block of decoder layers.
struct BlockReport {
  std::int64_t first = 0;  // decoder layer
  int depth = 1;
  std::string reason;  // why the plan joined these layers
  // Of each layer: "activation 0.95, weight 1"; where its inputs differ, in the order attention,
  // its output projection, MLP, its down projection: "activation 0.9/1/0.8/1, weight 1".
  std::vector<std::string> choices;
  // At the block's output, on the samples that were searched: of the unclipped layers, of one layer
  // searched after the other, and of the choice.
  double start_error = 0.0, greedy_error = 0.0, error = 0.0;
  // On the samples set aside, of the unclipped layers and of what was found; 0 without such
  // samples.
  double held_out_start = 0.0, held_out_error = 0.0;
  bool kept = true;  // false: the set-aside samples disagreed, the layers stay unclipped
  // At the block's output, of the layers as they are kept, on the samples set aside or, without
  // them, on all.
  TokenErrors token_errors;
  std::int64_t forwards = 0;  // layer-forwards of the search
};

// The loss of the vision encoder's optimization, see VisionEncoderOptions: means over samples.
struct VisionLoss {
  // Each term by itself, not weighted; 0 where the options leave it out.
  double entropy = 0.0;  // sum over neighbouring decoder layers of w_k H(output k+1 | output k)
  double tower = 0.0;    // relative error of the image tokens that the decoder gets
  double output = 0.0;   // relative error of the decoder's output
  double answer = 0.0;   // cross entropy of a token of the answer
  double total = 0.0;    // the loss
};

// What the vision encoder's optimization did.
struct VisionReport {
  std::vector<VisionLoss> epochs;  // each batch before the step that it leads to
  // On the samples set aside, before and after; nothing without such samples.
  std::optional<VisionLoss> held_out_start, held_out_end;
  bool kept = true;  // false: the set-aside samples disagreed, the tower stays as it was
};

// What mixed precision chose for linears that share an input.
struct UnitPrecision {
  std::int64_t layer = 0;            // of the decoder
  std::vector<std::string> linears;  // "self_attn.q_proj", ...
  std::string scheme;                // chosen: "w8 a8"
  // KL of the answers when only these linears are rounded: by the recipe's own scheme, and as
  // chosen.
  double least_divergence = 0.0, divergence = 0.0;
};

struct PrecisionReport {
  std::vector<UnitPrecision> units;  // in data order
  std::int64_t raised = 0;           // units that do not have the recipe's own scheme
  double bits_per_weight = 0.0;      // of the decoder's quantized linears, scales included
  double least_bits = 0.0;           // were all of the recipe's own scheme
  double divergence = 0.0;           // predicted KL of the answers, as chosen
  double least_divergence = 0.0;     // were all of the recipe's own scheme
  std::int64_t forwards = 0;         // layer-forwards of measuring
  // On average over the multiplications of these linears, 16 for float. Folders of before this was
  // counted do not have it.
  std::optional<double> bits_per_activation = {};
};

// What smoothing chose for the inputs of a decoder layer, of q k v, o, gate up and down: alpha;
// nothing where an input stays as it is.
using Alphas = std::vector<std::optional<double>>;

// What calibration, plan and search found. Recipes without `search` have no plan and no blocks.
struct SearchReport {
  CalibrationReport calibration;
  // Of every layer, of every step of smoothing that searched; of massive channels too, where a
  // rotation left some.
  std::vector<Alphas> alphas;
  std::vector<std::int64_t> massive_channels;  // of the residual stream, that rotations left
  std::string strategy;                        // of the plan
  std::optional<double> h0;                    // threshold of the plan, where its strategy has one
  double allowed_forwards = 0;                 // infinite: a threshold was given
  double planned_forwards = 0;
  std::vector<double> entropy;  // D(k, k+1) of neighbouring decoder layers; may be empty
  std::optional<PrecisionReport> precision;  // where the recipe has `precision`
  // Mean KL of the answers' logits to those of the float model, of the decoder as it was rounded:
  // on the samples set aside or, without them, on all; nothing where none of them has an answer.
  std::optional<double> answer_divergence;
  std::vector<BlockReport> blocks;
  std::optional<VisionReport> vision;        // where the recipe has `vision_encoder`, finished
  std::map<std::string, std::int64_t> wins;  // how many layers chose what
  std::int64_t forwards = 0;                 // layer-forwards of all searches, of resumed runs too
  // Of this run: in searches, what their layer-forwards take at the median speed of the float
  // model's layers, and for calibration, dependencies and everything else.
  double search_seconds = 0.0, forward_seconds = 0.0, other_seconds = 0.0;
};

struct QuantizeReport {
  std::vector<LinearReport> linears;
  std::optional<SearchReport> search;
  std::int64_t source_bytes = 0;  // of the weight files
  std::int64_t result_bytes = 0;
  double seconds = 0.0;
  bool stopped = false;  // as stop_requested asked; what is finished is kept, no model was written
};

// Where a long run is: `done` of `total` units of work, and what is being worked on.
struct Progress {
  std::int64_t done = 0, total = 0;
  std::string what;
};
using ProgressCallback = std::function<void(const Progress&)>;

struct QuantizeOptions {
  bool overwrite = false;           // replace an existing output folder
  std::filesystem::path data = {};  // for recipes that search: docs/calibration.md
  // Finished layers, blocks and epochs of a search, and what mixed precision measured, are kept
  // beside `out`, in "<out>.search.json", until `out` is written; what tokens count is not. True:
  // go on from there; a run with another model, recipe or data is refused. False: a file that is
  // there is refused, or with `overwrite` begun anew.
  bool resume = false;
  // Asked at every layer that is smoothed or that gradients go down through, after every block,
  // after every epoch of the vision encoder, and at every linear that is written; true ends the run
  // there, to be resumed later. May be empty.
  std::function<bool()> stop_requested = {};
};

// Quantizes every linear as the recipe says and writes `out` atomically: it appears complete or not
// at all. Weights are read, quantized and written one by one. A recipe that searches first streams
// the calibration data through the model, a block of decoder layers at a time in memory. Throws
// kInvalidArgument (the recipe does not fit: a pattern that matches nothing, a group size that does
// not divide, no data for a search, another run to resume), kCorrupt (also: a weight that is not
// finite), kIo.
QuantizeReport quantize(const std::filesystem::path& model,
                        const std::filesystem::path& out,
                        const Recipe& recipe,
                        const QuantizeOptions& options = {},
                        const ProgressCallback& progress = {});

}  // namespace qvlm
