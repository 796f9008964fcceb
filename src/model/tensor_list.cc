#include "model/tensor_list.h"

#include "model/vlm.h"
#include "model/weight_source.h"

namespace qvlm {
namespace {

// Remembers what the parts of a model ask for, so that there is no second list of it. Every tensor
// is one zero seen through many indices and takes no memory.
class AskedShapes : public WeightSource {
 public:
  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override {
    asked_[name] = shape.vec();
    return at::zeros({}).expand(shape);
  }
  std::optional<LinearScheme> find_scheme(const std::string&) const override {
    return std::nullopt;
  }
  QuantizedWeight load_codes(const std::string&, std::int64_t, std::int64_t) const override {
    return {};
  }

  const std::map<std::string, std::vector<std::int64_t>>& asked() const { return asked_; }

 private:
  mutable std::map<std::string, std::vector<std::int64_t>> asked_;
};

}  // namespace

std::map<std::string, std::vector<std::int64_t>> list_tensors(const ModelConfig& config) {
  const c10::InferenceMode inference;
  ModelConfig whole = config;
  whole.vision_feature_layers.back() = -1;  // the last state: no layer of the tower is left out
  const auto source = std::make_shared<AskedShapes>();
  Vlm::load(Weights(source, Execution::kFloat), whole);
  return source->asked();
}

bool is_unread_tensor(std::string_view name, const ModelConfig& config) {
  if (name == "lm_head.weight") return config.tied_head;
  return name.starts_with("vision_tower.post_layernorm.") || name.ends_with(".position_ids") ||
         name.ends_with(".rotary_emb.inv_freq");
}

}  // namespace qvlm
