#include "pipeline/forecast.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "io/scheme.h"
#include "model/linear_list.h"
#include "model/llama.h"
#include "model/memory_plan.h"
#include "model/vit.h"
#include "pipeline/decoder_search.h"
#include "pipeline/recipe.h"
#include "planner/partition.h"
#include "quant/quantized_tensor.h"
#include "search/float_decoder.h"
#include "search/sensitivity.h"
#include "search/vision_reference.h"

namespace qvlm {
namespace {

constexpr std::int64_t kFloatBytes = 4;
// Soft codes, their joint table and its gradient, of one value, as products in the same time.
constexpr double kEntropyFlops = 20'000;
constexpr double kSecondsOfMeasuring = 0.15;  // of each of the two
// Threads wait for each other behind a layer, not behind a product.
constexpr std::int64_t kFlopsBetweenWaits = 500'000'000;

// Calls `step` again and again; returns the seconds of the fastest time, as other programs may have
// held up the others.
double fastest_step(const std::function<void()>& step) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  step();  // the first one finds threads and memory
  const auto start = Clock::now();
  double fastest = std::numeric_limits<double>::infinity();
  while (seconds_since(start) < kSecondsOfMeasuring) {
    const auto begin = Clock::now();
    step();
    fastest = std::min(fastest, seconds_since(begin));
  }
  return fastest;
}

// Every thread multiplies for itself, as samples do on their way through a layer.
double measure_products(std::int64_t tokens, std::int64_t width) {
  const std::int64_t threads = thread_count();
  const std::int64_t product = 2 * tokens * width * width;
  const std::int64_t repeats = kFlopsBetweenWaits / product + 1;
  const at::Tensor x = at::ones({tokens, width}), weight = at::ones({width, width});
  const double seconds = fastest_step([&] {
    for_each_apart(threads, [&](std::int64_t) {
      const c10::InferenceMode inference;
      for (std::int64_t i = 0; i < repeats; ++i)
        at::linear(x, weight);
    });
  });
  return static_cast<double>(threads * repeats * product) / seconds;
}

// On one thread: most steps between a weight and its bytes have no more.
double measure_rounding(const LinearScheme& scheme, std::int64_t out, std::int64_t in) {
  const at::Tensor weight = at::linspace(-1.0, 1.0, out * in).reshape({out, in});
  double seconds = 0.0;
  for_each_apart(1, [&](std::int64_t) {
    const c10::InferenceMode inference;
    seconds = fastest_step([&] {
      const QuantizedTensor quantized = quantize_weight(weight, scheme.weight, at::kFloat);
      encode_stored("", scheme, to_quantized_weight(quantized), DType::kF32);
      (quantized.dequantize() - weight).square().sum(at::kDouble);
    });
  });
  return static_cast<double>(out * in) / seconds;
}

// The linears of one part of the model, or of one layer.
std::vector<LinearShape> linears_of(const ModelConfig& config, std::string_view prefix) {
  std::vector<LinearShape> linears = list_linears(config);
  std::erase_if(linears, [&](const LinearShape& one) { return !one.name.starts_with(prefix); });
  return linears;
}

std::int64_t values_of(const std::vector<LinearShape>& linears) {
  return std::accumulate(
      linears.begin(), linears.end(), std::int64_t{0},
      [](std::int64_t sum, const LinearShape& one) { return sum + one.out * one.in; });
}

// REQUIRES: something is quantized.
LinearShape largest_quantized(const Workload& work) {
  LinearShape largest;
  for (const LinearShape& linear : list_linears(work.config)) {
    const bool larger = linear.out * linear.in > largest.out * largest.in;
    if (larger && work.schemes.contains(linear.name)) largest = linear;
  }
  return largest;
}

bool rounds_before_decoder(const Workload& work) {
  return std::ranges::any_of(work.schemes,
                             [](const auto& entry) { return is_in_encoder(entry.first); });
}

// Samples that a search looks at, as a share of all: half of them may be set aside.
double searched_share(const Workload& work) {
  if (!work.recipe.search->held_out || work.samples < 2) return 1.0;
  return static_cast<double>((work.samples + 1) / 2) / static_cast<double>(work.samples);
}

// Inputs of a layer whose scales are measured, each by a forward of its own.
int static_inputs(const Workload& work) {
  for (const auto& [name, scheme] : work.schemes) {
    if (is_in_decoder(name) && has_static_input(scheme)) return DecoderLayer::kInputs;
  }
  return 0;
}

// What strategies that measure would be given; zeros do for checking their options.
PlanNumbers unmeasured(std::int64_t units, int max_depth) {
  PlanNumbers numbers{.units = units};
  numbers.dependency.assign(static_cast<std::size_t>(units - 1), 0.0);
  for (std::int64_t first = 0; first < units; ++first) {
    const std::int64_t depth = std::clamp<std::int64_t>(max_depth, 1, units - first);
    numbers.gain.emplace_back(static_cast<std::size_t>(depth), 0.0);
  }
  return numbers;
}

bool plans_unmeasured(PlanStrategy strategy) {
  return strategy == PlanStrategy::kNone || strategy == PlanStrategy::kFixed ||
         strategy == PlanStrategy::kRandom;
}

// Forwards of a layer on all samples beside those of the search, summed over the layers: one for
// the dependencies, one in float, one behind the block, and trials on either half. See
// pipeline/decoder_search.cc.
double other_forwards(const Workload& work, const SearchCost& cost) {
  const PlanOptions& plan = work.recipe.plan;
  const std::int64_t layers = work.config.text.layers;
  const double searched = searched_share(work);
  const double trials = searched + 2.0 * (1.0 - searched);
  double forwards = static_cast<double>(layers) * (3.0 + trials + searched * static_inputs(work));
  if (plan.strategy == PlanStrategy::kError) forwards += static_cast<double>(layers);
  if (plan.strategy != PlanStrategy::kOracle) return forwards;
  for (std::int64_t first = 0; first < layers; ++first)
    forwards +=
        cost.of_block(static_cast<int>(std::min<std::int64_t>(plan.max_depth, layers - first)));
  return forwards;
}

// States of one layer that the search of a block keeps at a time, its references included.
std::int64_t kept_states(const Workload& work, const SearchCost& cost, std::int64_t depth) {
  switch (work.recipe.search->method) {
    case SearchMethod::kExhaustive:
      return depth + depth + 1;  // one beginning of each length, and what is running
    case SearchMethod::kBeam:
      return depth + cost.beam_width * (cost.candidates + (depth > 1 ? 1 : 0));
    case SearchMethod::kDescent:
      return depth + std::max<std::int64_t>(depth + 2, cost.candidates + 1);
  }
  return depth;
}

// A block of layers in float32 and rounded, once for each clip of the weights.
std::int64_t block_bytes(const Workload& work, std::int64_t depth) {
  const auto clips = static_cast<std::int64_t>(work.recipe.search->weight_clip.size());
  std::int64_t bytes = 0;
  for (const LinearShape& linear : linears_of(work.config, "decoder.layers.0.")) {
    bytes += kFloatBytes * linear.out * linear.in;
    const auto found = work.schemes.find(linear.name);
    if (found == work.schemes.end()) continue;
    const Execution execution =
        has_static_input(found->second) ? Execution::kFloat : Execution::kPacked;
    bytes += clips * linear_bytes(linear.out, linear.in, found->second, execution, kFloatBytes);
  }
  return depth * bytes;
}

// One weight on its way: in float32, its codes, what they mean and the differences; beside it the
// codes of a decoder layer that wait for their turn in the file.
std::int64_t writing_bytes(const Workload& work) {
  constexpr std::int64_t kCopies = 5;
  const LinearShape linear = largest_quantized(work);
  return kCopies * kFloatBytes * linear.out * linear.in +
         values_of(linears_of(work.config, "decoder.layers.0."));
}

// The float model's states at both ends of tower and decoder; those of a batch behind every layer
// of both, with their gradients; and one layer. See search/vision_encoder_loss.h.
std::int64_t vision_encoder_bytes(const Workload& work) {
  const VisionEncoderOptions& options = *work.recipe.vision_encoder;
  const ModelConfig& config = work.config;
  const std::int64_t samples = std::max<std::int64_t>(work.samples, 1);
  const std::int64_t batch = std::min<std::int64_t>(options.batch, samples);
  const std::int64_t tower =
      kFloatBytes * (config.vision.patches() + 1) * config.vision.hidden_size;
  const std::int64_t decoder = kFloatBytes * config.text.hidden_size * mean_tokens(work);
  const std::int64_t reference =
      samples * (tower * (needed_vision_layers(config) + 2) + 3 * decoder);
  const std::int64_t layers = needs_decoder(options) ? config.text.layers + 2 : 1;
  const std::int64_t trace = tower * (needed_vision_layers(config) + 2) + decoder * layers;
  const std::int64_t layer = kFloatBytes * values_of(linears_of(config, "decoder.layers.0."));
  return reference + batch * trace + layer;
}

bool measures_static_scales(const Workload& work) {
  return static_inputs(work) > 0 ||
         (work.recipe.precision &&
          std::ranges::any_of(work.recipe.precision->candidates, has_static_input));
}

// Gradients down the decoder, for mixed precision or for what tokens count: the head or a layer;
// and of a batch of samples the states behind all layers, the gradients, two of each while they go
// through a layer, and of one sample a thread what the layer keeps of itself for them.
std::int64_t gradient_bytes(const Workload& work) {
  const bool importance = weighs_by_gradient(work.recipe);
  if (!work.recipe.precision && !importance) return 0;
  const TextConfig& text = work.config.text;
  const std::int64_t precision = work.recipe.precision ? work.recipe.precision->samples : 0;
  const std::int64_t all = std::min(importance ? work.samples : precision, work.samples);
  const bool at_once = precision > 0 && measures_static_scales(work);
  const std::int64_t samples = at_once ? std::min(precision, work.samples)
                                       : std::min(all, static_cast<std::int64_t>(gradient_batch()));
  constexpr std::int64_t kHiddens = 12, kInners = 5, kTables = 3;  // kept of a layer
  const std::int64_t states = (text.layers + 1 + 2 * Sensitivity::kDraws) * text.hidden_size;
  const std::int64_t kept = kHiddens * text.hidden_size + kInners * text.intermediate_size +
                            kTables * text.heads * mean_tokens(work);
  const std::int64_t threads = std::min<std::int64_t>(samples, thread_count());
  const std::int64_t head = kFloatBytes * text.vocab_size * text.hidden_size;
  return kFloatBytes * mean_tokens(work) * (samples * states + threads * kept) +
         std::max(block_bytes(work, 1), head);
}

// What tokens count by gradients, at the inputs of each layer and behind it.
std::int64_t importance_bytes(const Workload& work) {
  if (!weighs_by_gradient(work.recipe)) return 0;
  return kFloatBytes * work.config.text.layers * (DecoderLayer::kInputs + 1) * work.tokens;
}

// The most of four steps: images in the tower, where the outputs of all layers are kept, the
// embedding table, and the decoder with its samples.
std::int64_t search_bytes(const Workload& work) {
  const ModelConfig& config = work.config;
  const std::int64_t states = kFloatBytes * config.text.hidden_size * work.tokens;
  const std::int64_t inputs = states * (rounds_before_decoder(work) ? 2 : 1);
  const std::int64_t depth = std::min<std::int64_t>(work.recipe.plan.max_depth, config.text.layers);
  const std::int64_t kept = kept_states(work, search_cost(*work.recipe.search), depth);
  const auto searched =
      static_cast<std::int64_t>(searched_share(work) * static_cast<double>(states));
  // A layer's input and output, flat copies of two outputs, and as much again to count the codes.
  const std::int64_t measuring = 8 * states + block_bytes(work, 1);
  const std::int64_t searching = 2 * states + kept * searched + block_bytes(work, depth);
  const std::int64_t before = states * (rounds_before_decoder(work) ? 1 : 0);
  return pixel_bytes(work) + std::max({before + tower_bytes(work), inputs + table_bytes(work),
                                       inputs + importance_bytes(work) +
                                           std::max({measuring, searching, gradient_bytes(work)})});
}

}  // namespace

std::int64_t pixel_bytes(const Workload& work) {
  const std::int64_t size = work.config.vision.image_size;
  return kFloatBytes * 3 * size * size * work.images;
}

std::int64_t tower_bytes(const Workload& work) {
  const VisionConfig& vision = work.config.vision;
  return kFloatBytes * work.images * (needed_vision_layers(work.config) + 1) *
         (vision.patches() + 1) * vision.hidden_size;
}

std::int64_t table_bytes(const Workload& work) {
  const TextConfig& text = work.config.text;
  return (kFloatBytes + work.stored_bytes) * text.vocab_size * text.hidden_size;
}

// One decoder layer on all samples: products, and attention to the positions before.
double decoder_flops(const Workload& work) {
  const TextConfig& text = work.config.text;
  const auto weights = static_cast<double>(values_of(linears_of(work.config, "decoder.layers.0.")));
  const auto width = static_cast<double>(text.heads * text.head_dim);
  return 2.0 * static_cast<double>(work.tokens) * weights + 2.0 * work.square_tokens * width;
}

// Tower and projector on all images.
double vision_flops(const Workload& work) {
  ModelConfig config = work.config;
  config.vision.layers = needed_vision_layers(work.config);
  const auto patches = static_cast<double>(1 + config.vision.patches());
  const auto weights = static_cast<double>(values_of(linears_of(config, "vision_tower.")) +
                                           values_of(linears_of(config, "projector.")));
  const auto width = static_cast<double>(config.vision.layers * config.vision.hidden_size);
  const double image = 2.0 * patches * weights + 4.0 * patches * patches * width;
  return static_cast<double>(work.images) * image;
}

std::int64_t mean_tokens(const Workload& work) {
  const std::int64_t samples = std::max<std::int64_t>(work.samples, 1);
  return std::max<std::int64_t>((work.tokens + samples - 1) / samples, 1);
}

MachineSpeed measure_speed(const Workload& work) {
  constexpr std::int64_t kMostTokens = 256, kMostWidth = 1024, kMostValues = 1 << 20;
  MachineSpeed speed;
  speed.flops = measure_products(std::min(mean_tokens(work), kMostTokens),
                                 std::min(work.config.text.hidden_size, kMostWidth));
  const LinearShape linear = largest_quantized(work);
  const std::int64_t rows = std::clamp<std::int64_t>(kMostValues / linear.in, 1, linear.out);
  speed.rounded = measure_rounding(work.schemes.at(linear.name), rows, linear.in);
  return speed;
}

PlannedSearch forecast_search(const Workload& work, const MachineSpeed& speed) {
  const PlanOptions& plan = work.recipe.plan;
  const std::int64_t layers = work.config.text.layers;
  const SearchCost cost = search_cost(*work.recipe.search);
  const BlockPlan checked = make_plan(plan, unmeasured(layers, plan.max_depth), cost);
  PlannedSearch search;
  search.samples = work.samples;
  search.tokens = work.tokens;
  search.least_forwards = cost_of_fixed(cost, layers, 1);
  search.most_forwards = cost_of_fixed(cost, layers, plan.max_depth);
  search.allowed_forwards = checked.budget;
  if (plans_unmeasured(plan.strategy)) search.planned_forwards = checked.cost;
  const double flops = speed.busy_flops(search.samples);
  const double forward = decoder_flops(work) / flops;  // on all samples
  search.forward_seconds = forward * searched_share(work);
  search.other_seconds = forward * other_forwards(work, cost) +
                         vision_flops(work) / flops * (rounds_before_decoder(work) ? 2.0 : 1.0);
  const auto clips = static_cast<double>(work.recipe.search->weight_clip.size());
  search.other_seconds += clips * forecast_writing(work, speed);  // its rounding, for trials
  return search;
}

// Each sample runs on one thread.
double MachineSpeed::busy_flops(std::int64_t samples) const {
  const std::int64_t threads = thread_count();
  const std::int64_t busy = std::clamp<std::int64_t>(samples, 1, threads);
  return flops * static_cast<double>(busy) / static_cast<double>(threads);
}

double forecast_writing(const Workload& work, const MachineSpeed& speed) {
  double values = 0.0;
  for (const LinearShape& linear : list_linears(work.config)) {
    if (work.schemes.contains(linear.name)) values += static_cast<double>(linear.out * linear.in);
  }
  return values / speed.rounded;
}

double forecast_vision_encoder(const Workload& work, const MachineSpeed& speed) {
  const VisionEncoderOptions& options = *work.recipe.vision_encoder;
  const TextConfig& text = work.config.text;
  // As many forwards: one there and one again on the way back, one for the gradients of inputs and
  // one for those of weights, which the decoder does not need.
  double pass = 4.0 * vision_flops(work);
  const auto layers = static_cast<double>(text.layers);
  if (needs_decoder(options)) pass += 3.0 * layers * decoder_flops(work);
  if (options.entropy_weight != 0.0)
    pass += kEntropyFlops * layers * static_cast<double>(work.tokens * text.hidden_size);
  const double learned = options.held_out && work.samples > 1 ? 0.5 : 1.0;
  const double passes = options.epochs * learned + 2.0 * (1.0 - learned) +
                        (options.entropy_weight != 0.0 ? 1.0 : 0.0) + 1.0 / 3.0;
  return passes * pass / speed.flops;
}

std::int64_t forecast_memory(const Workload& work) {
  const std::int64_t search = work.recipe.search ? search_bytes(work) : 0;
  const std::int64_t vision = work.recipe.vision_encoder ? vision_encoder_bytes(work) : 0;
  return std::max({writing_bytes(work), search + gptq_bytes(work) + encoder_code_bytes(work),
                   vision, encoder_rounding_bytes(work), smoothing_bytes(work)}) +
         transform_bytes(work);
}

}  // namespace qvlm
