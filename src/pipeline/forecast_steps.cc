// What transforms and GPTQ take: seconds and bytes.
#include <algorithm>

#include "model/linear_list.h"
#include "model/llama.h"
#include "pipeline/forecast.h"

namespace qvlm {
namespace {

constexpr std::int64_t kDoubleBytes = 8;
constexpr double kAlphas = 21.0;

// The quantized linears of one decoder layer.
std::vector<LinearShape> layer_linears(const Workload& work) {
  std::vector<LinearShape> linears;
  for (const LinearShape& linear : list_linears(work.config)) {
    if (linear.name.starts_with("decoder.layers.0.") && work.schemes.contains(linear.name))
      linears.push_back(linear);
  }
  return linears;
}

bool uses_gptq(const Workload& work) {
  return work.recipe.rounding.method == RoundingMethod::kGptq;
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
  if (!uses_gptq(work)) return 0.0;
  const auto tokens = static_cast<double>(work.tokens);
  double flops = 0.0;
  for (const LinearShape& linear : layer_linears(work)) {
    const auto in = static_cast<double>(linear.in), out = static_cast<double>(linear.out);
    // Its part of a run of the layer, its moments, a Cholesky factor in double precision, which
    // takes about twice as long as in float32, the columns' errors carried on.
    flops +=
        2.0 * tokens * in * out + 2.0 * tokens * in * in + 2.0 / 3.0 * in * in * in + in * in * out;
  }
  return static_cast<double>(work.config.text.layers) * flops / speed.flops;
}

double forecast_smoothing(const Workload& work, const MachineSpeed& speed) {
  if (!work.recipe.smooths()) return 0.0;
  // Once to measure, once to go on; once more for the inputs themselves.
  const auto layers = static_cast<double>(work.config.text.layers);
  double seconds = 0.0;
  for (const Transform& transform : work.recipe.transforms) {
    if (std::holds_alternative<RotateOptions>(transform)) continue;
    const auto* smooth = std::get_if<SmoothOptions>(&transform);
    const bool searches = smooth == nullptr || !smooth->alpha;
    seconds +=
        ((searches ? 3.0 : 2.0) * layers * decoder_flops(work) + vision_flops(work)) / speed.flops;
    // Every alpha rounds all weights and multiplies some tokens.
    if (searches) seconds += kAlphas * forecast_writing(work, speed);
  }
  return seconds;
}

std::int64_t gptq_bytes(const Workload& work) {
  if (!uses_gptq(work)) return 0;
  std::int64_t codes = 0, moments = 0, widest = 0;
  std::int64_t last = 0;
  for (const LinearShape& linear : layer_linears(work)) {
    codes += linear.out * linear.in;
    widest = std::max(widest, linear.in);
    if (linear.in != last) moments += linear.in * linear.in;
    last = linear.in;
  }
  // All codes until they are written, one layer's moments, and the copies that a factorization
  // takes.
  return work.config.text.layers * codes + kDoubleBytes * (2 * moments + 5 * widest * widest);
}

std::int64_t transform_bytes(const Workload& work) {
  if (work.recipe.transforms.empty()) return 0;
  std::int64_t largest = 0;
  for (const LinearShape& linear : list_linears(work.config))
    largest = std::max(largest, linear.out * linear.in);
  const TextConfig& text = work.config.text;
  largest = std::max(largest, text.vocab_size * text.hidden_size);
  // In float32: what a step takes, and what it makes.
  constexpr std::int64_t kCopies = 2, kFloatBytes = 4;
  return kCopies * kFloatBytes * largest;
}

}  // namespace qvlm
