#include "model/weight_source.h"

#include "base/error.h"
#include "tensor/file_tensor.h"

namespace qvlm {
namespace {

void require_same_shape(const TensorView& view, c10::IntArrayRef shape) {
  if (c10::IntArrayRef(view.shape) == shape) return;
  fail(ErrorKind::kCorrupt, view.describe(), ": config.json asks for shape ", shape);
}

}  // namespace

Weights::Weights(Checkpoint checkpoint,
                 Execution execution,
                 const std::filesystem::path& packed_cache) {
  std::optional<QuantizationConfig> quantization = QuantizationConfig::load(checkpoint);
  std::unique_ptr<PackedCache> cache;
  if (!packed_cache.empty()) cache = std::make_unique<PackedCache>(packed_cache, checkpoint);
  source_ = std::make_shared<Source>(
      Source{std::move(checkpoint), std::move(quantization), execution, std::move(cache)});
}

void Weights::save_cache() const {
  if (source_->cache) source_->cache->save();
}

Weights Weights::scope(std::string_view name) const {
  Weights inner = *this;
  inner.prefix_ += std::string(name) + ".";
  return inner;
}

at::Tensor Weights::get(std::string_view name, c10::IntArrayRef shape) const {
  return get_stored(name, shape).to(at::kFloat);
}

at::Tensor Weights::get_stored(std::string_view name, c10::IntArrayRef shape) const {
  const TensorView view = source_->checkpoint.get_tensor(full_name(name));
  require_same_shape(view, shape);
  const bool half = view.dtype == DType::kBF16 || view.dtype == DType::kF16;
  const at::Tensor tensor = half ? wrap(view).clone() : to_float32(view);
  require(tensor.isfinite().all().item<bool>(), ErrorKind::kCorrupt,
          source_->checkpoint.folder().string(), ": ", view.describe(), " holds NaN or infinity");
  return tensor;
}

Linear Weights::linear(std::string_view name, std::int64_t in, std::int64_t out, bool bias) const {
  const Weights inner = scope(name);
  const at::Tensor bias_values = bias ? inner.get("bias", {out}) : at::Tensor();
  const std::string ours = full_name(name);
  std::optional<LinearScheme> scheme;
  if (source_->quantization) scheme = source_->quantization->find(ours);
  if (!scheme) {
    return Linear(inner.get_stored("weight", {out, in}), bias_values, source_->execution);
  }

  PackedCache* cache = source_->execution == Execution::kPacked ? source_->cache.get() : nullptr;
  if (cache != nullptr) {
    const std::optional<kernels::PackedWeights> packed = cache->find(ours);
    if (packed && packed->out == out && packed->in == in) {
      return Linear(*packed, bias_values, scheme->activation);
    }
  }
  const QuantizedWeight weight = load_quantized_weight(source_->checkpoint, ours, scheme->weight);
  require(weight.out == out && weight.in == in, ErrorKind::kCorrupt, ours,
          ": quantized weight is [", weight.out, ", ", weight.in, "], config.json asks for [", out,
          ", ", in, "]");
  Linear linear(weight, bias_values, scheme->activation, source_->execution);
  if (cache != nullptr && linear.packed() != nullptr) cache->add(ours, *linear.packed());
  return linear;
}

}  // namespace qvlm
