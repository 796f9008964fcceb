// Weights by scoped name and expected shape. A model part asks for "weight" of shape [out, in]
// inside its scope; where it comes from and whether it is quantized is decided here.
#pragma once

#include <qvlm/session.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "io/quantized_checkpoint.h"
#include "model/linear.h"
#include "model/packed_cache.h"
#include "tensor/tensor.h"

namespace qvlm {

class Weights {
 public:
  // All weights of a checkpoint; linears it declares as quantized execute as asked.
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
  // The same in the file's own type where that is bfloat16 or float16, which takes half the memory.
  at::Tensor get_stored(std::string_view name, c10::IntArrayRef shape) const;
  // The linear <name> with `<name>.weight` [out, in] and, if `bias`, `<name>.bias` [out].
  Linear linear(std::string_view name, std::int64_t in, std::int64_t out, bool bias) const;
  // Writes what this load packed to the cache, if there is one.
  void save_cache() const;

 private:
  struct Source {
    Checkpoint checkpoint;
    std::optional<QuantizationConfig> quantization;
    Execution execution;
    std::unique_ptr<PackedCache> cache;
  };

  std::string full_name(std::string_view name) const { return prefix_ + std::string(name); }

  std::shared_ptr<const Source> source_;
  std::string prefix_;
};

}  // namespace qvlm
