#include "model/rounded_weights.h"

#include "quant/hadamard_rows.h"
#include "quant/quantized_tensor.h"

namespace qvlm {

RoundedWeights::RoundedWeights(std::shared_ptr<const WeightSource> floats,
                               LinearSchemes schemes,
                               ReplacedTensors replaced,
                               RoundedLinears codes)
    : floats_(std::move(floats)),
      schemes_(std::move(schemes)),
      replaced_(std::move(replaced)),
      codes_(std::move(codes)) {}

at::Tensor RoundedWeights::load(const std::string& name, c10::IntArrayRef shape) const {
  const at::Tensor own = floats_->load(name, shape);
  const auto found = replaced_.find(name);
  // In the type that the file will have.
  return found == replaced_.end() ? own : found->second.to(own.scalar_type()).reshape(shape);
}

std::optional<LinearScheme> RoundedWeights::find_scheme(const std::string& linear) const {
  const auto found = schemes_.find(linear);
  return found == schemes_.end() ? std::nullopt : std::optional(found->second);
}

QuantizedWeight RoundedWeights::load_codes(const std::string& linear,
                                           std::int64_t out,
                                           std::int64_t in) const {
  const auto known = codes_.find(linear);
  if (known != codes_.end()) return known->second;
  const at::Tensor stored = floats_->load(linear + ".weight", {out, in});
  const LinearScheme& scheme = schemes_.at(linear);
  return to_quantized_weight(quantize_weight(weight_to_round(stored.to(at::kFloat), scheme),
                                             scheme.weight, stored.scalar_type()));
}

}  // namespace qvlm
