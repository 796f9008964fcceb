#include <qvlm/plan.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "base/error.h"
#include "calib/samples.h"
#include "io/quantized_checkpoint.h"
#include "io/scheme.h"
#include "io/staged_folder.h"
#include "model/memory_plan.h"
#include "model/prompt_encoder.h"
#include "pipeline/forecast.h"
#include "pipeline/recipe.h"
#include "pipeline/source_check.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

// Without data: positions of a sample beside those of its image, and what the result runs on.
constexpr std::int64_t kTextTokens = 32;
constexpr std::int64_t kNewTokens = 64;

std::int64_t bytes_of(const TensorInfo& tensor) {
  return TensorView{"", tensor.dtype, tensor.shape, {}}.elements() *
         static_cast<std::int64_t>(dtype_size(tensor.dtype));
}

std::int64_t tensor_bytes(const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const TensorView& tensor : checkpoint.tensors())
    bytes += static_cast<std::int64_t>(tensor.bytes.size());
  return bytes;
}

PlannedLinear plan_linear(const Checkpoint& checkpoint,
                          const LinearShape& linear,
                          const MatchedLinear& matched) {
  const TensorView view = checkpoint.get_tensor(linear.name + ".weight");
  const auto bytes = static_cast<std::int64_t>(view.bytes.size());
  PlannedLinear planned{linear.name, linear.out, linear.in, "float", matched.rule, bytes, bytes};
  if (!matched.scheme) return planned;
  planned.scheme = describe(*matched.scheme);
  planned.result_bytes = 0;
  const std::string module = checkpoint.names().module_to_file(linear.name);
  for (const TensorInfo& tensor :
       describe_stored(module, *matched.scheme, linear.out, linear.in, view.dtype).tensors)
    planned.result_bytes += bytes_of(tensor);
  return planned;
}

// Stored scales of activations come from a search, which knows the decoder only.
void check_scales(const Recipe& recipe, const std::map<std::string, LinearScheme>& schemes) {
  for (const auto& [name, scheme] : schemes) {
    const bool stored = scheme.activation && !scheme.activation->dynamic;
    const bool measured = recipe.search && name.starts_with("decoder.");
    require(!stored || measured || !scheme.input_scale.empty(), ErrorKind::kInvalidArgument,
            "recipe '", recipe.name, "': linear '", name,
            "': static activations need measured scales, and only a 'search' measures, for linears "
            "of the decoder");
  }
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
  require(!code && fs::is_directory(out.parent_path(), code), ErrorKind::kIo, "cannot create ",
          options.out.string(), ": ", out.parent_path().string(), " is no folder");
  require(std::cmp_greater_equal(space.available, bytes), ErrorKind::kIo, options.out.string(),
          ": the result takes ", bytes, " bytes, the disk has ", space.available);
}

// Lengths of the samples as the data has them.
void take_data(const CalibrationSamples& samples, const Manifest& manifest, Workload& work,
               QuantizePlan& plan) {
  const TokenShares shares = samples.shares();
  plan.data = {static_cast<std::int64_t>(manifest.items.size()),
               static_cast<std::int64_t>(samples.samples.size()),
               shares.image,
               shares.text,
               shares.answer,
               manifest.sha256};
  work.tokens.clear();
  work.images = 0;
  for (const StreamedSample& sample : samples.samples) {
    work.tokens.push_back(static_cast<std::int64_t>(sample.ids.size()));
    work.images += sample.pixels.defined() ? 1 : 0;
  }
}

std::int64_t mean_tokens(const std::vector<std::int64_t>& tokens) {
  std::int64_t sum = 0;
  for (const std::int64_t count : tokens)
    sum += count;
  const auto samples = std::max<std::int64_t>(std::ssize(tokens), 1);
  return std::max<std::int64_t>((sum + samples - 1) / samples, 1);
}

PlannedMemory plan_memory_of(const Workload& work) {
  const std::int64_t prompt = mean_tokens(work.tokens);
  const std::int64_t positions = std::min(prompt + kNewTokens, work.config.text.max_positions);
  const MemoryPlan running = plan_memory(work.config, work.schemes, Execution::kPacked,
                                         {work.stored_bytes, prompt, positions});
  return {forecast_memory(work), positions, running.weights, running.kv_cache,
          running.activations};
}

void plan_time(const Workload& work, QuantizePlan& plan) {
  const MachineSpeed speed = measure_speed(work);
  plan.flops_per_second = speed.flops;
  plan.least_seconds = plan.most_seconds = forecast_writing(work, speed);
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
    notes.push_back(join("the recipe looks at calibration data, which quantize will want; without "
                         "it here every sample is taken to have ",
                         mean_tokens(work.tokens), " positions, one image's among them"));
  }
  if (!recipe.needs_data() && plan.data) notes.emplace_back("the recipe looks at no data");
  if (recipe.needs_data() && plan.data && plan.data->samples < recipe.calibration.samples) {
    notes.push_back(join("the recipe asks for ", recipe.calibration.samples,
                         " samples, the data has ", plan.data->items));
  }
  if (plan.search && !plan.search->planned_forwards) {
    notes.emplace_back("which decoder layers are joined to blocks depends on measurements of the "
                       "search itself");
  }
  if (recipe.vision_encoder)
    notes.emplace_back("the optimization of the vision encoder is in neither memory nor time");
  return notes;
}

}  // namespace

QuantizePlan plan_quantize(const fs::path& model,
                           const Recipe& recipe,
                           const QuantizePlanOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const ModelConfig config = load_model_config(checkpoint);
  const std::vector<LinearShape> linears = list_linears(config);
  check_source(checkpoint, linears);
  const std::vector<MatchedLinear> matched = match_recipe(recipe, linears);
  std::map<std::string, LinearScheme> schemes;
  QuantizePlan plan;
  plan.source_bytes = plan.result_bytes = tensor_bytes(checkpoint);
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (matched[i].scheme) schemes[linears[i].name] = *matched[i].scheme;
    plan.linears.push_back(plan_linear(checkpoint, linears[i], matched[i]));
    plan.result_bytes += plan.linears.back().result_bytes - plan.linears.back().source_bytes;
  }
  check_scales(recipe, schemes);
  check_out(options, checkpoint.folder(), plan.result_bytes);

  const std::int64_t tokens = std::min(config.image_tokens() + kTextTokens,
                                       config.text.max_positions);
  Workload work{config, recipe, schemes, {}, recipe.calibration.samples};
  work.tokens.assign(static_cast<std::size_t>(recipe.calibration.samples), tokens);
  const std::optional<TensorView> table = checkpoint.find_tensor("decoder.embed_tokens.weight");
  if (table && dtype_size(table->dtype) != 2) work.stored_bytes = 4;
  if (!options.data.empty()) {
    const Manifest manifest = Manifest::load(options.data);
    take_data(load_samples(model, manifest.sample(recipe.calibration.samples,
                                                  recipe.calibration.seed)),
              manifest, work, plan);
  } else if (recipe.needs_data()) {
    PromptEncoder::load(checkpoint);  // what samples need of the model is there
  }
  plan_time(work, plan);
  plan.memory = plan_memory_of(work);
  plan.notes = make_notes(work, plan);
  return plan;
}

}  // namespace qvlm
