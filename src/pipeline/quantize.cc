#include <qvlm/quantize.h>

#include <chrono>

#include "base/error.h"
#include "io/quantized_checkpoint_writer.h"
#include "model/linear_list.h"
#include "pipeline/recipe.h"
#include "quant/quantized_tensor.h"
#include "tensor/file_tensor.h"

namespace qvlm {
namespace {

// Whole squared difference over the whole squared weight.
double relative_error(const at::Tensor& weight, const QuantizedTensor& quantized) {
  const double total = weight.square().sum(at::kDouble).item<double>();
  return total == 0.0
             ? 0.0
             : (quantized.dequantize() - weight).square().sum(at::kDouble).item<double>() / total;
}

// Every linear is there and has its shape, before anything is written.
void check_source(const Checkpoint& checkpoint, const std::vector<LinearShape>& linears) {
  require(!QuantizationConfig::load(checkpoint), ErrorKind::kUnsupported,
          checkpoint.folder().string(), ": is quantized already; start from the float checkpoint");
  for (const LinearShape& linear : linears) {
    const TensorView view = checkpoint.get_tensor(linear.name + ".weight");
    require(view.shape == std::vector<std::int64_t>{linear.out, linear.in}, ErrorKind::kCorrupt,
            checkpoint.folder().string(), ": ", view.describe(), ": config.json asks for shape [",
            linear.out, ", ", linear.in, "]");
  }
}

// Reads, rounds and writes one linear.
LinearReport quantize_linear(const Checkpoint& checkpoint,
                             const LinearShape& linear,
                             const LinearScheme& scheme,
                             QuantizedCheckpointWriter& writer) {
  const TensorView view = checkpoint.get_tensor(linear.name + ".weight");
  const at::Tensor weight = to_float32(view);
  require(weight.isfinite().all().item<bool>(), ErrorKind::kCorrupt, checkpoint.folder().string(),
          ": ", view.describe(), " holds NaN or infinity; a quantized copy of it would be useless");
  const QuantizedTensor quantized = quantize_weight(weight, scheme.weight, scalar_type(view.dtype));
  writer.write(linear.name, to_quantized_weight(quantized));
  return {linear.name, linear.out, linear.in, describe(scheme), relative_error(weight, quantized)};
}

Json describe_run(const Recipe& recipe) {
  Json extra = Json::object();
  extra.set("recipe", recipe.name);
  extra.set("description", recipe.description);
  extra.set("rounding", "nearest");
  extra.set("tool", "qvlm " QVLM_VERSION);
  return extra;
}

}  // namespace

QuantizeReport quantize(const std::filesystem::path& model,
                        const std::filesystem::path& out,
                        const Recipe& recipe,
                        const QuantizeOptions& options,
                        const ProgressCallback& progress) {
  const auto start = std::chrono::steady_clock::now();
  const c10::InferenceMode inference;
  const Checkpoint checkpoint = Checkpoint::open(model);
  const std::vector<LinearShape> linears = list_linears(load_model_config(checkpoint));
  check_source(checkpoint, linears);
  const std::map<std::string, LinearScheme> schemes = apply_recipe(recipe, linears);
  QuantizedCheckpointWriter writer(checkpoint, out, {schemes.begin(), schemes.end()},
                                   describe_run(recipe), {.overwrite = options.overwrite});
  QuantizeReport report;
  const auto total = static_cast<std::int64_t>(schemes.size());
  std::int64_t done = 0;
  for (const LinearShape& linear : linears) {
    const auto scheme = schemes.find(linear.name);
    if (scheme == schemes.end()) {
      report.linears.push_back({linear.name, linear.out, linear.in, "float", 0.0});
      continue;
    }
    if (progress) progress({done, total, linear.name});
    report.linears.push_back(quantize_linear(checkpoint, linear, scheme->second, writer));
    ++done;
  }
  writer.commit();
  if (progress) progress({done, total, "written"});
  report.source_bytes = checkpoint.file_bytes();
  report.result_bytes = Checkpoint::open(out).file_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace qvlm
