#include "model/checkpoint_weights.h"

#include "base/error.h"
#include "base/mapped_file.h"
#include "tensor/file_tensor.h"
#include "tensor/finite.h"

namespace qvlm {
namespace {

void require_same_shape(const TensorView& view, c10::IntArrayRef shape) {
  if (c10::IntArrayRef(view.shape) == shape) return;
  fail(ErrorKind::kCorrupt, view.describe(), ": config.json asks for shape ", shape);
}

}  // namespace

CheckpointWeights::CheckpointWeights(Checkpoint checkpoint)
    : checkpoint_(std::move(checkpoint)), quantization_(QuantizationConfig::load(checkpoint_)) {}

at::Tensor CheckpointWeights::load(const std::string& name, c10::IntArrayRef shape) const {
  const TensorView view = checkpoint_.get_tensor(name);
  require_same_shape(view, shape);
  const bool half = view.dtype == DType::kBF16 || view.dtype == DType::kF16;
  at::Tensor tensor = half ? wrap(view).clone() : to_float32(view);
  require(is_finite(tensor), ErrorKind::kCorrupt, checkpoint_.folder().string(), ": ",
          view.describe(), " holds NaN or infinity");
  drop_pages(view.bytes);
  return tensor;
}

std::optional<LinearScheme> CheckpointWeights::find_scheme(const std::string& linear) const {
  return quantization_ ? quantization_->find(linear) : std::nullopt;
}

QuantizedWeight CheckpointWeights::load_codes(const std::string& linear,
                                              std::int64_t out,
                                              std::int64_t in) const {
  const std::optional<LinearScheme> scheme = find_scheme(linear);
  require(scheme.has_value(), ErrorKind::kInternal, linear, ": is not quantized");
  QuantizedWeight weight = load_quantized_weight(checkpoint_, linear, scheme->weight);
  require(weight.out == out && weight.in == in, ErrorKind::kCorrupt, linear,
          ": quantized weight is [", weight.out, ", ", weight.in, "], config.json asks for [", out,
          ", ", in, "]");
  const std::size_t scales = scheme->input_scale.size();
  require(scales <= 1 || scales == static_cast<std::size_t>(in), ErrorKind::kCorrupt, linear,
          ": qvlm.json has ", scales, " scales for its ", in, " input channels");
  for (const char* codes : {".weight_packed", ".weight"}) {
    const std::optional<TensorView> view = checkpoint_.find_tensor(linear + codes);
    if (view) drop_pages(view->bytes);
  }
  return weight;
}

}  // namespace qvlm
