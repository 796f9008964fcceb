#include "model/rounded_weights.h"

#include "model/checkpoint_weights.h"
#include "quant/quantized_tensor.h"

namespace qvlm {

RoundedWeights::RoundedWeights(const Checkpoint& checkpoint, LinearSchemes schemes)
    : floats_(std::make_shared<CheckpointWeights>(checkpoint)), schemes_(std::move(schemes)) {}

at::Tensor RoundedWeights::load(const std::string& name, c10::IntArrayRef shape) const {
  return floats_->load(name, shape);
}

std::optional<LinearScheme> RoundedWeights::find_scheme(const std::string& linear) const {
  const auto found = schemes_.find(linear);
  return found == schemes_.end() ? std::nullopt : std::optional(found->second);
}

QuantizedWeight RoundedWeights::load_codes(const std::string& linear,
                                           std::int64_t out,
                                           std::int64_t in) const {
  const at::Tensor stored = floats_->load(linear + ".weight", {out, in});
  return to_quantized_weight(quantize_weight(stored.to(at::kFloat), schemes_.at(linear).weight,
                                             stored.scalar_type()));
}

}  // namespace qvlm
