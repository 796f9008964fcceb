#include <qvlm/quantize.h>

#include <chrono>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/process_memory.h"
#include "calib/manifest.h"
#include "io/kv_format.h"
#include "io/quantized_checkpoint_writer.h"
#include "io/sha256.h"
#include "model/linear_list.h"
#include "pipeline/recipe.h"
#include "pipeline/search_json.h"
#include "pipeline/search_run.h"
#include "pipeline/source_check.h"
#include "pipeline/transform_run.h"
#include "quant/hadamard_rows.h"
#include "quant/quantized_tensor.h"
#include "quant/weight_error.h"
#include "search/encoder_rounding.h"
#include "tensor/file_tensor.h"
#include "tensor/public_call.h"

namespace qvlm {
namespace {

// Reads, rounds and writes one linear.
//   codes: of the linear, where it is rounded already; else null, and it is rounded to nearest.
LinearReport quantize_linear(const WeightSource& floats,
                             const LinearShape& linear,
                             const LinearScheme& scheme,
                             const QuantizedWeight* codes,
                             QuantizedCheckpointWriter& writer) {
  const at::Tensor stored = floats.load(linear.name + ".weight", {linear.out, linear.in});
  const at::Tensor weight = weight_to_round(stored.to(at::kFloat), scheme);
  QuantizedWeight nearest;
  if (codes == nullptr) {
    nearest = to_quantized_weight(quantize_weight(weight, scheme.weight, stored.scalar_type()));
    codes = &nearest;
  }
  writer.write(linear.name, *codes);
  return {linear.name, linear.out, linear.in, describe(scheme),
          relative_error(to_quantized_tensor(*codes).dequantize(), weight)};
}

// Two runs are the same if version, model, recipe and data are. The model is told by what is in its
// files, not by their times: a copy of it gives the same bytes.
std::string identify_run(const Checkpoint& checkpoint,
                         const Recipe& recipe,
                         const std::string& data_sha256) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.folder())) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".safetensors" && extension != ".json") continue;
    files[entry.path().filename().string()] = sha256_file(entry.path());
  }
  std::string text =
      join("qvlm " QVLM_VERSION "\n", recipe_to_json(recipe).dump(), "\n", data_sha256);
  for (const auto& [name, hash] : files)
    text += "\n" + name + " " + hash;
  return sha256(text);
}

std::filesystem::path journal_file(const std::filesystem::path& out) {
  return (out / "").parent_path().string() + ".search.json";
}

// The output folder is complete and of this very run: what a kill after the last rename leaves.
bool is_written(const std::filesystem::path& out, const std::string& run) {
  if (!std::filesystem::exists(out / kOwnFile)) return false;
  return Json::load(out / kOwnFile).get_string("run", "") == run;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What a run of quantize() shares between its steps.
class Quantization {
 public:
  Quantization(const std::filesystem::path& model,
               const std::filesystem::path& out,
               const Recipe& recipe,
               const QuantizeOptions& options,
               const ProgressCallback& progress)
      : checkpoint_(Checkpoint::open(model)),
        out_(out),
        options_(options),
        progress_(progress),
        config_(load_model_config(checkpoint_)),
        linears_(list_linears(config_)),
        recipe_(complete_recipe(recipe, linears_)) {
    check_source(checkpoint_, linears_);
    check_transforms(checkpoint_, recipe_);
    const std::map<std::string, LinearScheme> applied = apply_recipe(recipe_, linears_);
    schemes_.insert(applied.begin(), applied.end());
  }

  QuantizeReport run() {
    const auto start = std::chrono::steady_clock::now();
    if (recipe_.needs_data()) {
      search_and_write();
    } else {
      floats_ = transform_weights(checkpoint_, recipe_, schemes_, {}, progress_).weights;
      write(options_.overwrite);
    }
    report_.source_bytes = checkpoint_.file_bytes();
    if (!report_.stopped) report_.result_bytes = Checkpoint::open(out_).file_bytes();
    report_.seconds = seconds_since(start);
    return std::move(report_);
  }

 private:
  void search_and_write();
  void write(bool overwrite);
  Json describe() const;

  Checkpoint checkpoint_;
  const std::filesystem::path& out_;
  const QuantizeOptions& options_;
  const ProgressCallback& progress_;
  ModelConfig config_;
  std::vector<LinearShape> linears_;
  const Recipe recipe_;
  std::shared_ptr<const TransformedWeights> floats_;
  LinearSchemes schemes_;
  RoundedLinears codes_;      // that are not the nearest
  ReplacedTensors replaced_;  // norm gains and biases that changed
  std::string run_;           // identity of a run that searches
  QuantizeReport report_;
};

void Quantization::search_and_write() {
  require(!options_.data.empty(), ErrorKind::kInvalidArgument, "recipe '", recipe_.name,
          "' looks at data, so it needs some for calibration: give --data (docs/calibration.md)");
  const Manifest manifest = Manifest::load(options_.data);  // hashes every image: once
  run_ = identify_run(checkpoint_, recipe_, manifest.sha256);
  const bool written = options_.resume && is_written(out_, run_);
  const bool overwrite = options_.overwrite || written;
  // What would fail at the end fails now.
  std::optional<PrecisionChoice> precision;
  if (recipe_.precision) precision = list_precision_units(checkpoint_, recipe_, linears_, schemes_);
  check_apart(out_, checkpoint_.folder());
  check_replaceable(out_, overwrite);
  SearchJournal journal(journal_file(out_), run_, options_.resume, options_.overwrite);
  const CalibrationSamples samples = load_samples(
      checkpoint_.folder(), manifest.sample(recipe_.calibration.samples, recipe_.calibration.seed));
  if (rounds_encoder(schemes_, recipe_.rounding)) check_images(samples.samples);
  const auto start = std::chrono::steady_clock::now();
  TransformedModel transformed = transform_weights(checkpoint_, recipe_, schemes_, samples,
                                                   progress_, {&journal, options_.stop_requested});
  floats_ = std::move(transformed.weights);
  report_.stopped = floats_ == nullptr;
  if (report_.stopped) return;
  const double transform_seconds = seconds_since(start);
  SearchRun search = run_search({floats_, config_, recipe_, schemes_, precision, samples},
                                options_.stop_requested, journal, progress_);
  search.report.calibration = describe_samples(samples, manifest);
  search.report.alphas = journal.alphas();
  search.report.massive_channels = std::move(transformed.massive_channels);
  search.report.other_seconds += transform_seconds;
  schemes_ = std::move(search.schemes);
  codes_ = std::move(search.codes);
  replaced_ = std::move(search.replaced);
  report_.search = std::move(search.report);
  report_.stopped = search.stopped;
  if (search.stopped) return;
  write(overwrite);
  if (!report_.stopped) journal.remove();
}

void Quantization::write(bool overwrite) {
  const c10::InferenceMode inference;
  QuantizedCheckpointWriter::Options settings{.overwrite = overwrite};
  settings.replaced = floats_->changed();
  for (const auto& [name, tensor] : replaced_)
    settings.replaced.insert(name);
  const RoundedWeights result(floats_, schemes_, replaced_);
  settings.replacement = [&result](const TensorView& source, const std::string& ours) {
    const at::Tensor stored = result.load(ours, source.shape).to(scalar_type(source.dtype));
    const std::span<const std::byte> bytes = bytes_of(stored.contiguous());
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  QuantizedCheckpointWriter writer(checkpoint_, out_, schemes_, describe(), std::move(settings));
  const auto total = static_cast<std::int64_t>(schemes_.size());
  std::int64_t done = 0;
  for (const LinearShape& linear : linears_) {
    const auto scheme = schemes_.find(linear.name);
    if (scheme == schemes_.end()) {
      report_.linears.push_back({linear.name, linear.out, linear.in, "float", 0.0});
      continue;
    }
    report_.stopped = options_.stop_requested && options_.stop_requested();
    if (report_.stopped) return;
    if (progress_) progress_({done, total, linear.name});
    const auto codes = codes_.find(linear.name);
    report_.linears.push_back(quantize_linear(*floats_, linear, scheme->second,
                                              codes == codes_.end() ? nullptr : &codes->second,
                                              writer));
    return_freed_memory();  // else holes between what is kept add up to the size of the model
    ++done;
  }
  Json errors = Json::object();
  for (const LinearReport& linear : report_.linears) {
    if (schemes_.contains(linear.name)) errors.set(linear.name, linear.relative_error);
  }
  writer.describe(kRelativeErrors, errors);
  writer.commit();
  if (progress_) progress_({done, total, "written"});
}

Json Quantization::describe() const {
  Json extra = Json::object();
  extra.set("recipe", recipe_.name);
  extra.set("description", recipe_.description);
  extra.set("rounding", rounding_name(recipe_.rounding.method));
  if (recipe_.kv_cache) extra.set("kv_cache", kv_format_name(*recipe_.kv_cache));
  extra.set("tool", "qvlm " QVLM_VERSION);
  extra.set("recipe_text", recipe_to_json(recipe_));
  if (!report_.search) return extra;
  extra.set("run", run_);
  extra.set("search", search_to_json(*report_.search));
  return extra;
}

}  // namespace

QuantizeReport quantize(const std::filesystem::path& model,
                        const std::filesystem::path& out,
                        const Recipe& recipe,
                        const QuantizeOptions& options,
                        const ProgressCallback& progress) {
  return public_call([&] { return Quantization(model, out, recipe, options, progress).run(); });
}

}  // namespace qvlm
