// Weights by scoped name and expected shape. A model part asks for "weight" of shape [out, in]
// inside its scope; where it comes from is a WeightSource's business (checkpoint_weights.h,
// synthetic_weights.h), how a linear keeps it is decided here.
#pragma once

#include <qvlm/session.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "io/checkpoint.h"
#include "io/quantized_checkpoint.h"
#include "model/linear.h"
#include "model/packed_cache.h"
#include "tensor/tensor.h"

namespace qvlm {

// Where weights come from. Names are whole and ours.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // A tensor of its own of finite values: float32, or bfloat16 or float16 where that is how it is
  // stored. Throws kNotFound or kCorrupt.
  virtual at::Tensor load(const std::string& name, c10::IntArrayRef shape) const = 0;
  // How a linear is quantized; nothing: it is float and load() has its weight.
  virtual std::optional<LinearScheme> find_scheme(const std::string& linear) const = 0;
  // The codes [out, in] of a linear that has a scheme.
  virtual QuantizedWeight load_codes(const std::string& linear,
                                     std::int64_t out,
                                     std::int64_t in) const = 0;
};

class Weights {
 public:
  // All weights of a source or checkpoint; linears that are quantized execute as asked.
  Weights(std::shared_ptr<const WeightSource> source, Execution execution);
  // `packed_cache`: where packed linears are kept from one load to the next (packed_cache.h);
  // empty: nowhere.
  Weights(Checkpoint checkpoint,
          Execution execution,
          const std::filesystem::path& packed_cache = {});

  // The same weights under "<prefix><name>.".
  Weights scope(std::string_view name) const;

  // A float32 copy. Throws kNotFound, or kCorrupt if the shape differs or a value is not finite;
  // names the tensor.
  at::Tensor get(std::string_view name, c10::IntArrayRef shape) const;
  // The same in the stored type where that is bfloat16 or float16, which takes half the memory. As
  // long as somebody holds it, it is given again: parts that share a table share its memory.
  at::Tensor get_stored(std::string_view name, c10::IntArrayRef shape) const;
  // The linear <name> with `<name>.weight` [out, in] and, if `bias`, `<name>.bias` [out].
  Linear linear(std::string_view name, std::int64_t in, std::int64_t out, bool bias) const;
  // How linears are to compute.
  Execution execution() const { return execution_; }
  // Writes what this load packed to the cache, if there is one.
  void save_cache() const;

 private:
  class Loaded;

  std::string full_name(std::string_view name) const { return prefix_ + std::string(name); }

  std::shared_ptr<const WeightSource> source_;
  Execution execution_;
  std::shared_ptr<Loaded> loaded_;      // shared between scopes
  std::shared_ptr<PackedCache> cache_;  // likewise; null: none
  std::string prefix_;
};

}  // namespace qvlm
