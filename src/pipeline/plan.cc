#include <qvlm/plan.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "base/error.h"
#include "calib/samples.h"
#include "io/scheme.h"
#include "io/staged_folder.h"
#include "model/memory_plan.h"
#include "model/prompt_encoder.h"
#include "pipeline/forecast.h"
#include "pipeline/precision_units.h"
#include "pipeline/recipe.h"
#include "pipeline/source_check.h"
#include "pipeline/stored_size.h"
#include "pipeline/transform_run.h"
#include "search/encoder_rounding.h"
#include "tensor/public_call.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

// Without data: positions of a sample beside those of its image, and what the result runs on.
constexpr std::int64_t kTextTokens = 32;
constexpr std::int64_t kNewTokens = 64;

PlannedLinear plan_linear(const Checkpoint& checkpoint,
                          const LinearShape& linear,
                          const MatchedLinear& matched) {
  const TensorView view = checkpoint.get_tensor(linear.name + ".weight");
  const auto bytes = static_cast<std::int64_t>(view.bytes.size());
  PlannedLinear planned{linear.name, linear.out, linear.in, "float", matched.rule, bytes, bytes};
  if (!matched.scheme) return planned;
  planned.scheme = describe(*matched.scheme);
  planned.result_bytes = stored_bytes(checkpoint, linear, *matched.scheme);
  return planned;
}

// What quantize() would find wrong with the place when it begins, and, as far as it can be
// foreseen, when it writes.
void check_out(const QuantizePlanOptions& options, const fs::path& source, std::int64_t bytes) {
  if (options.out.empty()) return;
  check_apart(options.out, source);
  check_replaceable(options.out, options.overwrite);
  const fs::path out = (fs::absolute(options.out) / "").parent_path();
  std::error_code code;
  const fs::space_info space = fs::space(out.parent_path(), code);
  require(code || std::cmp_greater_equal(space.available, bytes), ErrorKind::kIo,
          options.out.string(), ": the result takes ", bytes, " bytes, the disk has ",
          space.available);
}

void add_sample(Workload& work, std::int64_t tokens, bool image) {
  ++work.samples;
  work.tokens += tokens;
  work.square_tokens += static_cast<double>(tokens) * static_cast<double>(tokens);
  work.images += image ? 1 : 0;
}

// Samples as the data has them.
PlannedData take_data(const Checkpoint& checkpoint, const fs::path& data, Workload& work) {
  const CalibrationOptions& options = work.recipe.calibration;
  const Manifest manifest = Manifest::load(data);
  const CalibrationSamples samples =
      load_samples(checkpoint.folder(), manifest.sample(options.samples, options.seed));
  if (rounds_encoder({work.schemes.begin(), work.schemes.end()}, work.recipe.rounding))
    check_images(samples.samples);
  for (const StreamedSample& sample : samples.samples)
    add_sample(work, std::ssize(sample.ids), sample.pixels.defined());
  return {std::ssize(manifest.items), describe_samples(samples, manifest)};
}

// Samples as they usually are.
void guess_data(Workload& work) {
  const ModelConfig& config = work.config;
  const std::int64_t tokens =
      std::min(config.image_tokens() + kTextTokens, config.text.max_positions);
  const double squared = static_cast<double>(tokens) * static_cast<double>(tokens);
  work.samples = work.images = work.recipe.calibration.samples;
  work.tokens = work.samples * tokens;
  work.square_tokens = static_cast<double>(work.samples) * squared;
}

PlannedMemory plan_memory_of(const Workload& work) {
  const std::int64_t prompt = mean_tokens(work);
  const std::int64_t positions = std::min(prompt + kNewTokens, work.config.text.max_positions);
  const MemoryPlan running = plan_memory(
      work.config, work.schemes, Execution::kPacked,
      {work.stored_bytes, prompt, positions, work.recipe.kv_cache.value_or(KvFormat::kFloat32)});
  return {forecast_memory(work), positions, running.weights, running.kv_cache, running.activations};
}

void plan_time(const Workload& work,
               const std::optional<PrecisionChoice>& precision,
               QuantizePlan& plan) {
  const MachineSpeed speed = measure_speed(work);
  plan.flops_per_second = speed.flops;
  plan.least_seconds = plan.most_seconds =
      forecast_writing(work, speed) + forecast_smoothing(work, speed) +
      forecast_encoder_rounding(work, speed) + forecast_gptq(work, speed) +
      forecast_token_weights(work, speed);
  plan.most_seconds += forecast_massive(work, speed);
  if (work.recipe.vision_encoder) {
    plan.vision_encoder_seconds = forecast_vision_encoder(work, speed);
    plan.least_seconds += plan.vision_encoder_seconds;
    plan.most_seconds += plan.vision_encoder_seconds;
  }
  if (precision) {
    const double seconds = forecast_precision(work, *precision, speed);
    plan.least_seconds += seconds;
    plan.most_seconds += seconds;
  }
  if (!work.recipe.search) return;
  plan.search = forecast_search(work, speed);
  const PlannedSearch& search = *plan.search;
  const double most = std::min(search.allowed_forwards, search.most_forwards);
  plan.least_seconds += search.seconds(search.planned_forwards.value_or(search.least_forwards));
  plan.most_seconds += search.seconds(search.planned_forwards.value_or(most));
}

std::vector<std::string> make_notes(const Workload& work, const QuantizePlan& plan) {
  std::vector<std::string> notes;
  const Recipe& recipe = work.recipe;
  if (recipe.needs_data() && !plan.data) {
    notes.push_back(
        join("the recipe looks at calibration data, which quantize will want; without "
             "it here every sample is taken to have ",
             mean_tokens(work), " positions, one image's among them"));
  }
  if (!recipe.needs_data() && plan.data) notes.emplace_back("the recipe looks at no data");
  if (recipe.needs_data() && plan.data &&
      plan.data->calibration.samples < recipe.calibration.samples) {
    notes.push_back(join("the recipe asks for ", recipe.calibration.samples,
                         " samples, the data has ", plan.data->items));
  }
  if (plan.search && !plan.search->planned_forwards) {
    notes.emplace_back(
        "which decoder layers are joined to blocks depends on measurements of the "
        "search itself");
  }
  return notes;
}

// What happens to the tensors, and the schemes that do it.
std::map<std::string, LinearScheme> plan_tensors(const Checkpoint& checkpoint,
                                                 const std::vector<LinearShape>& linears,
                                                 const Recipe& recipe,
                                                 QuantizePlan& plan) {
  const std::vector<MatchedLinear> matched = match_recipe(recipe, linears);
  std::map<std::string, LinearScheme> schemes;
  plan.source_bytes = plan.result_bytes = tensor_bytes(checkpoint);
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (matched[i].scheme) schemes[linears[i].name] = *matched[i].scheme;
    plan.linears.push_back(plan_linear(checkpoint, linears[i], matched[i]));
    plan.result_bytes += plan.linears.back().result_bytes - plan.linears.back().source_bytes;
  }
  return schemes;
}

// What mixed precision may make of the result: from the recipe's own schemes to the target, or to
// the largest candidates.
PrecisionChoice plan_precision(const Checkpoint& checkpoint,
                               const std::vector<LinearShape>& linears,
                               const Recipe& recipe,
                               const LinearSchemes& schemes,
                               QuantizePlan& plan) {
  PrecisionChoice choice = list_precision_units(checkpoint, recipe, linears, schemes);
  const std::int64_t least = choice.other_bytes + choice.least_cost(PrecisionTarget::Kind::kBytes);
  std::int64_t most = choice.other_bytes;
  for (const PrecisionUnit& unit : choice.units)
    most += *std::ranges::max_element(unit.bytes);
  if (choice.target.kind == PrecisionTarget::Kind::kBytes ||
      choice.target.kind == PrecisionTarget::Kind::kBitsPerWeight)
    most = std::min(most, choice.other_bytes + choice.budget());
  plan.result_bytes = most;
  plan.notes.push_back(
      join("mixed precision: which linears get another scheme than is listed depends on "
           "measurements; all tensors take ",
           least == most ? join(least) : join("from ", least, " to ", most), " bytes"));
  return choice;
}

QuantizePlan make_plan_of(const fs::path& model,
                          const Recipe& given,
                          const QuantizePlanOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const ModelConfig config = load_model_config(checkpoint);
  const std::vector<LinearShape> linears = list_linears(config);
  check_source(checkpoint, linears);
  const Recipe recipe = complete_recipe(given, linears);
  QuantizePlan plan;
  const auto schemes = plan_tensors(checkpoint, linears, recipe, plan);
  std::optional<PrecisionChoice> precision;
  if (recipe.precision)
    precision = plan_precision(checkpoint, linears, recipe, {schemes.begin(), schemes.end()}, plan);
  check_out(options, checkpoint.folder(), plan.result_bytes);

  check_transforms(checkpoint, recipe);
  Workload work{config, recipe, schemes};
  const std::optional<TensorView> table = checkpoint.find_tensor("decoder.embed_tokens.weight");
  if (table && dtype_size(table->dtype) != 2) work.stored_bytes = 4;
  if (options.data.empty()) {
    if (recipe.needs_data()) PromptEncoder::load(checkpoint);  // what samples need of the model
    guess_data(work);
  } else {
    plan.data = take_data(checkpoint, options.data, work);
  }
  plan_time(work, precision, plan);
  plan.memory = plan_memory_of(work);
  for (std::string& note : make_notes(work, plan))
    plan.notes.push_back(std::move(note));
  return plan;
}

}  // namespace

QuantizePlan plan_quantize(const fs::path& model,
                           const Recipe& given,
                           const QuantizePlanOptions& options) {
  return public_call([&] { return make_plan_of(model, given, options); });
}

}  // namespace qvlm
