#include "model/weight_source.h"

#include <map>
#include <mutex>

#include "model/checkpoint_weights.h"

namespace qvlm {

// Tensors that were given out, as long as somebody holds them.
class Weights::Loaded {
 public:
  at::Tensor find(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? at::Tensor() : at::Tensor(found->second.lock());
  }

  void remember(const std::string& name, const at::Tensor& tensor) {
    const std::lock_guard lock(mutex_);
    tensors_.insert_or_assign(name, Held(tensor.getIntrusivePtr()));
  }

 private:
  using Held = c10::weak_intrusive_ptr<at::TensorImpl, c10::UndefinedTensorImpl>;

  std::mutex mutex_;
  std::map<std::string, Held> tensors_;
};

Weights::Weights(std::shared_ptr<const WeightSource> source, Execution execution)
    : source_(std::move(source)), execution_(execution), loaded_(std::make_shared<Loaded>()) {}

Weights::Weights(Checkpoint checkpoint,
                 Execution execution,
                 const std::filesystem::path& packed_cache)
    : Weights(std::make_shared<CheckpointWeights>(checkpoint), execution) {
  const bool packs = execution == Execution::kPacked && !packed_cache.empty();
  if (packs) cache_ = std::make_shared<PackedCache>(packed_cache, checkpoint);
}

void Weights::save_cache() const {
  if (cache_) cache_->save();
}

Weights Weights::scope(std::string_view name) const {
  Weights inner = *this;
  inner.prefix_ += std::string(name) + ".";
  return inner;
}

at::Tensor Weights::get(std::string_view name, c10::IntArrayRef shape) const {
  return source_->load(full_name(name), shape).to(at::kFloat);
}

at::Tensor Weights::get_stored(std::string_view name, c10::IntArrayRef shape) const {
  const std::string ours = full_name(name);
  at::Tensor tensor = loaded_->find(ours);
  if (tensor.defined() && tensor.sizes() == shape) return tensor;
  tensor = source_->load(ours, shape);
  loaded_->remember(ours, tensor);
  return tensor;
}

Linear Weights::linear(std::string_view name, std::int64_t in, std::int64_t out, bool bias) const {
  const Weights inner = scope(name);
  const at::Tensor bias_values = bias ? inner.get("bias", {out}) : at::Tensor();
  const std::string ours = full_name(name);
  const std::optional<LinearScheme> scheme = source_->find_scheme(ours);
  if (!scheme) return Linear(source_->load(ours + ".weight", {out, in}), bias_values, execution_);
  if (cache_) {
    const std::optional<kernels::PackedWeights> packed = cache_->find(ours);
    if (packed && packed->out == out && packed->in == in) {
      return Linear(*packed, bias_values, *scheme);
    }
  }
  Linear linear(source_->load_codes(ours, out, in), bias_values, *scheme, execution_);
  if (cache_ && linear.packed() != nullptr) cache_->add(ours, *linear.packed());
  return linear;
}

}  // namespace qvlm
