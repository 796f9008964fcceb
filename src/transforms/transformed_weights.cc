#include "transforms/transformed_weights.h"

#include "base/error.h"
#include "tensor/finite.h"

namespace qvlm {

at::Tensor TensorMap::apply(const at::Tensor& tensor) const {
  if (becomes_one.defined()) return at::where(becomes_one, at::ones_like(tensor), tensor);
  at::Tensor result = tensor;
  if (in_scale.defined()) result = result * in_scale;
  if (in_rotation) result = in_rotation.rows(result);
  if (out_scale.defined())
    result = result * (result.dim() == 2 ? out_scale.unsqueeze(1) : out_scale);
  if (out_rotation) result = out_rotation.columns(result);
  return result;
}

std::set<std::string> TransformedWeights::changed() const {
  std::set<std::string> names;
  for (const TensorMaps& maps : steps_) {
    for (const auto& [name, map] : maps)
      names.insert(name);
  }
  return names;
}

at::Tensor TransformedWeights::load(const std::string& name, c10::IntArrayRef shape) const {
  const at::Tensor stored = source_->load(name, shape);
  at::Tensor tensor;
  for (const TensorMaps& maps : steps_) {
    const auto map = maps.find(name);
    if (map != maps.end())
      tensor = map->second.apply(tensor.defined() ? tensor : stored.to(at::kFloat));
  }
  if (!tensor.defined()) return stored;
  tensor = tensor.to(stored.scalar_type());
  require(is_finite(tensor), ErrorKind::kCorrupt, "the tensor '", name,
          "' overflows its type when it is transformed");
  return tensor;
}

std::optional<LinearScheme> TransformedWeights::find_scheme(const std::string& linear) const {
  return source_->find_scheme(linear);
}

QuantizedWeight TransformedWeights::load_codes(const std::string& linear,
                                               std::int64_t out,
                                               std::int64_t in) const {
  return source_->load_codes(linear, out, in);
}

}  // namespace qvlm
