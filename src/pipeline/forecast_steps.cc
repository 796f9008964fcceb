// What transforms and GPTQ take: seconds and bytes.
#include <algorithm>

#include "base/parallel.h"
#include "model/linear_list.h"
#include "model/llama.h"
#include "model/vit.h"
#include "pipeline/forecast.h"
#include "pipeline/recipe.h"
#include "search/token_importance.h"
#include "transforms/massive_channels.h"
#include "transforms/rotate.h"
#include "transforms/scale_search.h"

namespace qvlm {
namespace {

constexpr std::int64_t kDoubleBytes = 8, kFloatBytes = 4;
constexpr double kAlphas = 22.0;
constexpr int kVisionInputs = 4;  // that linears of a layer read

// The quantized linears of one decoder layer.
std::vector<LinearShape> layer_linears(const Workload& work) {
  std::vector<LinearShape> linears;
  for (const LinearShape& linear : list_linears(work.config)) {
    if (linear.name.starts_with("decoder.layers.0.") && work.schemes.contains(linear.name))
      linears.push_back(linear);
  }
  return linears;
}

// Widths of the inputs of one decoder layer that quantized linears read.
std::vector<std::int64_t> layer_inputs(const Workload& work) {
  std::vector<std::int64_t> widths(DecoderLayer::kInputs, 0);
  for (const LinearShape& linear : layer_linears(work))
    widths[static_cast<std::size_t>(DecoderLayer::input_of(linear.name))] = linear.in;
  return widths;
}

bool searches_scales(const Transform& transform) {
  if (std::holds_alternative<AwqOptions>(transform)) return true;
  const auto* smooth = std::get_if<SmoothOptions>(&transform);
  return smooth != nullptr && !smooth->alpha;
}

// At most one rotation of a recipe does (match_recipe()).
bool looks_for_massive(const Workload& work) {
  return keeps_massive_apart(work.config, work.recipe.transforms);
}

bool uses_gptq(const Workload& work) {
  return work.recipe.rounding.method == RoundingMethod::kGptq;
}

bool uses_gptq_in_decoder(const Workload& work) {
  return uses_gptq(work) && work.recipe.search;
}

// The linears of tower and projector that are rounded by data.
std::vector<LinearShape> encoder_linears(const Workload& work) {
  if (!uses_gptq(work) && !work.recipe.rounding.bias_correction) return {};
  ModelConfig config = work.config;
  config.vision.layers = needed_vision_layers(work.config);
  std::vector<LinearShape> linears = list_linears(config);
  std::erase_if(linears, [&](const LinearShape& linear) {
    return !is_in_encoder(linear.name) || !work.schemes.contains(linear.name);
  });
  return linears;
}

// Whether it is the first one that reads its input.
bool reads_first(const LinearShape& linear) {
  return !linear.name.ends_with(".k_proj") && !linear.name.ends_with(".v_proj");
}

// One pass that measures inputs and scales them.
double scaling_seconds(const Workload& work, const MachineSpeed& speed, bool searches) {
  // Once to measure, once to go on; once more for the inputs themselves.
  const double decoder = static_cast<double>(work.config.text.layers) * decoder_flops(work);
  const double seconds =
      ((searches ? 3.0 : 2.0) * decoder + vision_flops(work)) / speed.busy_flops(work.samples);
  // Every alpha rounds all weights and multiplies some tokens.
  return seconds + (searches ? kAlphas * forecast_writing(work, speed) : 0.0);
}

}  // namespace

double forecast_precision(const Workload& work,
                          const PrecisionChoice& choice,
                          const MachineSpeed& speed) {
  const double measured =
      std::min(1.0, static_cast<double>(work.recipe.precision->samples) /
                        static_cast<double>(std::max<std::int64_t>(work.samples, 1)));
  const auto forwards = static_cast<double>(precision_forwards(choice, work.config.text.layers));
  return measured * forwards * decoder_flops(work) / speed.flops;
}

double forecast_gptq(const Workload& work, const MachineSpeed& speed) {
  if (!uses_gptq_in_decoder(work)) return 0.0;
  const auto tokens = static_cast<double>(work.tokens);
  double flops = 0.0;
  for (const LinearShape& linear : layer_linears(work)) {
    const auto in = static_cast<double>(linear.in), out = static_cast<double>(linear.out);
    // Its part of a run of the layer, and the columns' errors carried on.
    flops += 2.0 * tokens * in * out + in * in * out;
  }
  for (const std::int64_t width : layer_inputs(work)) {
    const auto in = static_cast<double>(width);
    // Half of the moments, and a Cholesky factor in double precision, which takes about twice as
    // long as in float32.
    flops += tokens * in * in + 2.0 / 3.0 * in * in * in;
  }
  return static_cast<double>(work.config.text.layers) * flops / speed.flops;
}

double forecast_token_weights(const Workload& work, const MachineSpeed& speed) {
  if (!weighs_by_gradient(work.recipe)) return 0.0;
  const auto forwards = static_cast<double>(kImportanceForwards * work.config.text.layers);
  return forwards * decoder_flops(work) / speed.busy_flops(work.samples);
}

double forecast_encoder_rounding(const Workload& work, const MachineSpeed& speed) {
  const std::vector<LinearShape> linears = encoder_linears(work);
  if (linears.empty()) return 0.0;
  // Once to go on, once to see all inputs, and once for each input whose mean is measured.
  const bool biases = work.recipe.rounding.bias_correction;
  const int runs = 1 + (uses_gptq(work) ? 1 : 0) + (biases ? kVisionInputs : 0);
  double flops = runs * vision_flops(work);
  const auto tokens = static_cast<double>(work.images * (work.config.vision.patches() + 1));
  for (const LinearShape& linear : linears) {
    if (!uses_gptq(work)) break;
    const auto in = static_cast<double>(linear.in), out = static_cast<double>(linear.out);
    flops += in * in * out;
    if (reads_first(linear)) flops += tokens * in * in + 2.0 / 3.0 * in * in * in;
  }
  return flops / speed.flops;
}

double forecast_smoothing(const Workload& work, const MachineSpeed& speed) {
  double seconds = 0.0;
  for (const Transform& transform : work.recipe.transforms) {
    if (!std::holds_alternative<RotateOptions>(transform))
      seconds += scaling_seconds(work, speed, searches_scales(transform));
  }
  if (!looks_for_massive(work) || work.samples == 0) return seconds;
  // The float model on some samples.
  const std::int64_t samples =
      std::min(static_cast<std::int64_t>(MassiveChannels::kSamples), work.samples);
  const double all =
      static_cast<double>(work.config.text.layers) * decoder_flops(work) + vision_flops(work);
  const double share = static_cast<double>(samples) / static_cast<double>(work.samples);
  return seconds + share * all / speed.busy_flops(samples);
}

double forecast_massive(const Workload& work, const MachineSpeed& speed) {
  return looks_for_massive(work) ? scaling_seconds(work, speed, true) : 0.0;
}

std::int64_t gptq_bytes(const Workload& work) {
  if (!uses_gptq_in_decoder(work)) return 0;
  std::int64_t codes = 0, moments = 0, inputs = 0, widest = 0;
  for (const LinearShape& linear : layer_linears(work))
    codes += linear.out * linear.in;
  for (const std::int64_t width : layer_inputs(work)) {
    moments += width * width;
    inputs += width;
    widest = std::max(widest, width);
  }
  // All codes until they are written; one layer's weights, rounded, beside its inputs of as many
  // samples as there are threads; its moments; and the copies that a factorization takes.
  return work.config.text.layers * codes + kFloatBytes * codes +
         kFloatBytes * thread_count() * mean_tokens(work) * inputs +
         kDoubleBytes * (moments + 5 * widest * widest);
}

std::int64_t encoder_code_bytes(const Workload& work) {
  std::int64_t codes = 0;
  for (const LinearShape& linear : encoder_linears(work))
    codes += linear.out * linear.in;
  return codes;
}

std::int64_t encoder_rounding_bytes(const Workload& work) {
  std::int64_t widest = 0;
  for (const LinearShape& linear : encoder_linears(work))
    widest = std::max(widest, linear.in);
  if (widest == 0) return 0;
  const std::int64_t moments = uses_gptq(work) ? kDoubleBytes * 6 * widest * widest : 0;
  return pixel_bytes(work) + tower_bytes(work) + encoder_code_bytes(work) + moments;
}

std::int64_t smoothing_bytes(const Workload& work) {
  if (!work.recipe.transforms_by_data()) return 0;
  const TextConfig& text = work.config.text;
  std::int64_t layer = 0, widest = 0;
  for (const LinearShape& linear : list_linears(work.config)) {
    if (!linear.name.starts_with("decoder.layers.0.")) continue;
    layer += linear.out * linear.in;
    widest = std::max({widest, linear.out, linear.in});
  }
  // The states in front of a layer and behind it, and the layer.
  const std::int64_t states = kFloatBytes * work.tokens * text.hidden_size;
  std::int64_t values = 2 * work.tokens * text.hidden_size + layer;
  if (std::ranges::any_of(work.recipe.transforms, searches_scales) || looks_for_massive(work)) {
    constexpr std::int64_t kCopies = 6;
    values += layer + ScaleSearch::kTokens * 4 * widest;
    values += thread_count() * kCopies * widest * (ScaleSearch::kRows + ScaleSearch::kTokens);
  }
  const std::int64_t table = states + table_bytes(work);
  return pixel_bytes(work) + std::max({tower_bytes(work), table, kFloatBytes * values});
}

std::int64_t transform_bytes(const Workload& work) {
  if (work.recipe.transforms.empty()) return 0;
  std::int64_t largest = 0;
  for (const LinearShape& linear : list_linears(work.config))
    largest = std::max(largest, linear.out * linear.in);
  const TextConfig& text = work.config.text;
  largest = std::max(largest, text.vocab_size * text.hidden_size);
  // In float32: what a step takes, scaled, and turned.
  constexpr std::int64_t kCopies = 3;
  return kCopies * kFloatBytes * largest;
}

}  // namespace qvlm
