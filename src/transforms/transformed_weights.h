// The weights of a float checkpoint after transforms that leave the model's function as it is:
// channels scaled here and unscaled there, states turned here and turned back there. Computed when
// asked for, one tensor at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "model/weight_source.h"
#include "transforms/rotation.h"

namespace qvlm {

// What happens to one tensor: a matrix [out, in], or a vector [out] (a bias, a norm's gain), which
// knows only the side `out`. Each side is scaled, then turned: W' = R_out^T diag(out_scale) W
// diag(in_scale) R_in.
struct TensorMap {
  at::Tensor in_scale, out_scale;  // [in], [out] float32; undefined: none
  Rotation in_rotation, out_rotation;
  // Of a gain, where the weights behind it have taken it over: [out] bool; undefined: nowhere.
  at::Tensor becomes_one;

  at::Tensor apply(const at::Tensor& tensor) const;  // float32
};

// By whole names of tensors: "decoder.layers.0.mlp.up_proj.weight".
using TensorMaps = std::map<std::string, TensorMap>;

class TransformedWeights : public WeightSource {
 public:
  explicit TransformedWeights(std::shared_ptr<const WeightSource> source)
      : source_(std::move(source)) {}

  // One more transform, of the weights as those before have left them.
  void add(TensorMaps maps) { steps_.push_back(std::move(maps)); }
  // The tensors that differ from the source's.
  std::set<std::string> changed() const;

  // Rounded to the type that the source stores, once. Throws kCorrupt where that overflows.
  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override;
  std::optional<LinearScheme> find_scheme(const std::string& linear) const override;
  QuantizedWeight load_codes(const std::string& linear,
                             std::int64_t out,
                             std::int64_t in) const override;

 private:
  std::shared_ptr<const WeightSource> source_;
  std::vector<TensorMaps> steps_;
};

}  // namespace qvlm
