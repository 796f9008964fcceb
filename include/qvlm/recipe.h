// Recipes: what a quantization run does to which linear. YAML files under configs/recipes/ hold
// them:
//
//   name: w4a8
//   description: one line for people
//   default:                       # every linear that no override matches
//     weight: {bits: 4, granularity: group, group_size: 128, symmetric: true}
//     activation: {bits: 8, granularity: token}       # left out: inputs stay float
//   overrides:                     # regular expressions over whole names; the last match wins
//     - match: "vision_tower\\..*|projector\\..*|lm_head"
//       keep: float
//   transforms:                    # of the float model, in this order; left out: none
//     - smooth: {alpha: 0.5}
//     - rotate: {}
//   rounding: {method: gptq}       # left out: to the nearest code
//   precision:                     # left out: every linear as said above
//     candidates: [{weight: {bits: 8}, activation: {bits: 8}}]
//     target_bpw: 4.5
//   calibration: {samples: 64}     # from here on: the search of clip ratios on calibration data;
//   plan: {strategy: entropy, max_depth: 3, budget_share: 0.5}      # left out: nothing is searched
//   search:
//     activation_clip: [1, 0.95, 0.9, 0.85, 0.8]
//     token_weights: {image: 1, text: 5, answer: 30}               # or: gradient
//   vision_encoder: {}
//   kv_cache: int8                 # left out: float32
//
// Linears are named vision_tower.*, projector.*, decoder.*, lm_head, as `qvlm inspect` prints them.
#pragma once

#include <qvlm/scheme.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qvlm {

// What happens to the linears whose whole name matches `pattern`.
struct Override {
  std::string pattern;                      // ECMAScript regular expression
  std::optional<LinearScheme> scheme = {};  // nothing: keep the linear in float
};

// Transforms change the weights and leave the function of the float model as it is; what they
// change is how well it can be rounded.

// SmoothQuant (Xiao et al. 2023): every input channel of the decoder's linears is divided by s =
// max|x|^alpha / max|w|^(1 - alpha), and its weights are multiplied with it. Folded into what comes
// before: nothing is computed while running. Measured on the calibration data.
struct SmoothOptions {
  // In [0, 1]: how much of the difficulty moves from activations to weights. Nothing: searched for
  // each input, by the error of its rounded products.
  std::optional<double> alpha = 0.5;
};

// AWQ (Lin et al. 2023): the same with s = mean|x|^alpha, which protects the weights that strong
// inputs read, alpha searched. (Its clipping is the search's weight_clip.)
struct AwqOptions {};

// QuaRot (Ashkboos et al. 2024): Hadamard matrices spread what is large in few channels over all.
struct RotateOptions {
  // Of the decoder; folded into weights, gains of norms too. Nothing: unless the head is tied, as
  // that table would have to hold two matrices.
  std::optional<bool> residual_stream = {};
  bool values = true;  // between values and output of the attention; folded
  // The input of down projections whose input is quantized; turned while running, by the same pass
  // that makes its codes.
  bool down_input = true;
  // Whether channels that hold much of the residual stream stay as they are, or the others would
  // have little of the grid; found on the calibration data, and made smaller where weights can take
  // it, as SmoothOptions does with alpha searched. Not with a quantized head, which would read them
  // as they are, nor where another rotation turns the residual stream.
  bool massive_apart = false;
  std::uint64_t seed = 0;  // of the random signs
};

using Transform = std::variant<SmoothOptions, AwqOptions, RotateOptions>;

enum class RoundingMethod {
  kNearest,
  // GPTQ (Frantar et al. 2022): column by column, each one's error made up for by those that are
  // left, weighed by how inputs go together; in vision tower and projector first, in the decoder
  // behind the search of each block.
  kGptq,
};

struct RoundingOptions {
  RoundingMethod method = RoundingMethod::kNearest;
  double damping = 0.01;  // added to the second moments' diagonal, as a share of its mean; to 1
  bool act_order = true;  // the columns with the largest inputs first; groups stay as they are
  // What a token counts in the second moments: how much the answers depend on it at this input, by
  // gradients down the decoder; else, and unless the search counts by gradient too,
  // SearchOptions::token_weights. Takes 4 forwards of the decoder.
  bool by_gradient = false;
  // Whether biases in vision tower and projector, where one is quantized, make up for what rounding
  // does to the mean of an output on the calibration data (Nagel et al. 2019, section 4.2), each
  // behind those before it; with any method.
  bool bias_correction = false;
};

// What mixed precision works towards.
struct PrecisionTarget {
  enum class Kind {
    kBitsPerWeight,  // at most, scales included, over the decoder's quantized linears
    kBytes,          // at most, of all tensors of the result
    // At most, on average over the multiplications of the decoder's quantized linears; an input
    // that stays float has 16. Bytes do not count, so no candidate may take more of them.
    kActivationBits,
    kDivergence,  // the smallest result whose answers have at most this predicted KL to float
  };
  Kind kind = Kind::kBitsPerWeight;
  double value = 0.0;  // 1 to 32 bits, 1 to 1e15 bytes, 1 to 16 bits, or a KL of 0 to 1e6
};

// Mixed precision: some linears of the decoder get another scheme than `default` and `overrides`
// say. What each linear does to the answers of the calibration samples is measured by the gradients
// of their logits, linears that share an input together, and the choice among all is the best by
// these numbers: inside the blocks of the plan with what two do together, between blocks as a sum.
struct PrecisionOptions {
  std::vector<LinearScheme> candidates = {};  // beside the recipe's own scheme
  PrecisionTarget target = {};
  std::int64_t samples = 16;  // measured on so many of the calibration samples
};

// What the search looks at: `samples` of the data given to quantize(), drawn by `seed`.
struct CalibrationOptions {
  std::int64_t samples = 64;
  std::uint64_t seed = 0;
};

// How decoder layers are grouped into blocks that are searched jointly (Q-VLM, section 3.2; our
// choices: docs/method.md).
enum class PlanStrategy {
  kNone,     // every layer for itself: the layer-wise greedy search
  kFixed,    // blocks of max_depth layers, whatever they are
  kRandom,   // as kEntropy, with random numbers in place of dependencies
  kError,    // as kEntropy, with the rounding error that a layer adds
  kEntropy,  // by the conditional entropy of neighbouring activations
  kOracle,   // by the measured gain of joint search; costs far more than it saves: for studies
};

struct PlanOptions {
  PlanStrategy strategy = PlanStrategy::kEntropy;
  int max_depth = 3;
  // How much a block may cost, one of: a threshold on the dependency (equation 7), a budget in
  // layer-forwards, or a share of the extra cost that blocks of max_depth everywhere would have.
  std::optional<double> h0 = {};
  std::optional<double> budget = {};
  double budget_share = 0.5;  // in [0, 1]; used when the other two are not given
  double tau = 0.25;          // softness of the codes that entropies are counted with
  std::uint64_t seed = 0;     // of kRandom
};

enum class SearchMethod {
  kExhaustive,  // every combination of the block's candidates, common beginnings run once
  kBeam,        // the beam_width best beginnings of each length
  kDescent,     // one coordinate at a time, from the greedy combination, until nothing improves
};

enum class ErrorMeasure {
  kRelative,  // |difference|^2 / |reference|^2 of each token, the first one left out
  kSquared,   // |difference|^2 (Q-VLM, equation 3)
};

// How much a token counts in an error, by its kind; `answer` are the positions whose logits predict
// a token of the answer. Of a LLaVA's prompt four fifths are image
// tokens, so where all count 1 a search works for the image (docs/experiments.md).
struct TokenWeights {
  double image = 1.0, text = 1.0, answer = 1.0;
  bool operator==(const TokenWeights&) const = default;
};

struct SearchOptions {
  SearchMethod method = SearchMethod::kExhaustive;
  int beam_width = 5;
  ErrorMeasure error = ErrorMeasure::kRelative;
  TokenWeights token_weights = {};  // in that error; each at least 0, not all 0
  // Tokens count by how much the answers depend on their state behind each layer instead, by
  // gradients down the decoder, which takes 4 forwards of it (once, with RoundingOptions'). A
  // relative error is then of all tokens together: sum of weight |difference|^2 / sum of weight
  // |reference|^2.
  bool by_gradient = false;
  // Candidates. Of activations: shares of each token's absolute maximum (dynamic schemes) or of
  // the values that the stored range covers (static schemes). Of weights: clip_ratio.
  std::vector<double> activation_clip = {1.0};
  std::vector<double> weight_clip = {1.0};
  // False: one activation clip and one weight clip for all linears of a layer. True: one of each
  // for every input of linears; needs kDescent.
  bool per_linear = false;
  // Keep what the search found for a block only where it also lowers the error on the samples that
  // it did not see; half of the samples are set aside for that.
  bool held_out = true;
};

// Visual-encoder optimization (Q-VLM, section 3.3): moves the clip ratios of the vision tower's
// quantizers by gradient so that the decoder's activations depend less on each other. The loss is
//   error_weight * (tower_weight * error of the image tokens that the decoder gets
//                   + output_weight * error of the decoder's output)
//   + entropy_weight * sum of the conditional entropies of neighbouring decoder layers
//   + answer_weight * loss of the answer tokens,
// errors relative to the float model; a term whose weight is 0 is not computed.
struct VisionEncoderOptions {
  int epochs = 10;
  int batch = 8;
  double rate = 0.02;  // of Adam, on the logarithms of clip ratios and gains; falls to 0
  // lambda 1; negative: the wrong sign, for studies. Off, as it shortens blocks by little and costs
  // error; entropies are some hundred times the errors, so 0.05 is much (docs/experiments.md, E6).
  double entropy_weight = 0.0;
  double error_weight = 1.0;  // lambda 2
  double tower_weight = 1.0;
  double output_weight = 1.0;  // eta
  double answer_weight = 0.0;
  bool norm_gains = false;  // also move the gains of the tower's norms
  // Keep what was found only where it also lowers the loss on samples that it was not found on;
  // half of those with an image are set aside for that. (Weights w_k and levels of codes are of
  // all.)
  bool held_out = true;
  std::uint64_t seed = 0;  // order of the samples
};

// How much work a recipe may be that is made from a scheme's name.
enum class Preset {
  kFast,      // rotation and nearest rounding; needs no data
  kBalanced,  // smoothing, rotation, GPTQ; at W8A8 smoothing alone; at W4A4 activations of 8 bits
              // for the inputs that need them most, an eighth
  kBest,      // the same on twice as many samples, with searched clips for every input of a layer,
              // at 8 bits too
};
constexpr const char* preset_name(Preset preset) {
  return preset == Preset::kFast ? "fast" : preset == Preset::kBalanced ? "balanced" : "best";
}

// The schemes that presets know.
inline constexpr const char* kPresetSchemes = "W8A8, W4A16, W4A8, W6A6, W4A4";

struct Recipe {
  std::string name;
  std::string description = {};
  // `default`; nothing: float unless an override says otherwise
  std::optional<LinearScheme> standard = {};
  std::vector<Override> overrides = {};
  std::vector<Transform> transforms = {};  // in this order
  RoundingOptions rounding = {};
  std::optional<PrecisionOptions> precision = {};
  CalibrationOptions calibration = {};  // where needs_data()
  PlanOptions plan = {};                // used by `search`
  std::optional<SearchOptions> search = {};
  std::optional<VisionEncoderOptions> vision_encoder = {};
  // What sessions on the result use unless told otherwise; nothing: float32. The result says it in
  // its qvlm.json.
  std::optional<KvFormat> kv_cache = {};

  // Whether a transform is measured on data: smooth, awq, rotate with massive channels apart.
  bool transforms_by_data() const;
  // Whether quantize() walks the decoder on calibration data: to search, to choose precision, or to
  // round by GPTQ what is quantized there.
  bool walks_decoder() const {
    return search.has_value() || precision.has_value() || rounding.method == RoundingMethod::kGptq;
  }
  // Whether quantize() needs calibration data.
  bool needs_data() const {
    return walks_decoder() || transforms_by_data() || vision_encoder.has_value() ||
           rounding.bias_correction;
  }

  // The recipe that does well for one of kPresetSchemes, in upper or lower case; of the decoder,
  // the rest of the model stays float (docs/recipes.md). target: mixed precision, linears may get
  // 8 bits; nothing: W4A4 with data has 4.5 bits of activations on average. Throws
  // kInvalidArgument, also for a target of a scheme that has 8 bits or float activations there
  // anyway.
  static Recipe preset(std::string_view scheme,
                       Preset preset = Preset::kBalanced,
                       const std::optional<PrecisionTarget>& target = {});

  // Reads a YAML file. Throws kNotFound, or kInvalidArgument naming file, line and key for an
  // unknown key, a bad value, a bad regular expression or a scheme that cannot exist.
  static Recipe load(const std::filesystem::path& file);
};

}  // namespace qvlm
