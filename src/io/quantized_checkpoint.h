// Quantized linears in compressed-tensors form (docs/formats.md): config.json's quantization_config, the
// tensors beside each module, and qvlm.json. Packing of kernel layouts is kernels/, never this file.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <qvlm/scheme.h>

#include "io/checkpoint.h"

namespace qvlm {

// One linear's weight as codes. real[o, i] = (codes[o, i] - zero_points[o, g]) * scales[o, g].
struct QuantizedWeight {
  Scheme scheme;
  std::int64_t out = 0, in = 0;
  std::int64_t groups = 1;               // 1 for kChannel and kTensor, else ceil(in / group_size)
  std::vector<std::int8_t> codes;        // [out, in], signed
  std::vector<float> scales;             // [out, groups]; kTensor: repeated for every row
  std::vector<std::int8_t> zero_points;  // [out, groups], empty when symmetric
};

// The schemes a checkpoint declares: quantization_config, refined by qvlm.json when there is one.
class QuantizationConfig {
 public:
  // Empty optional when the checkpoint is not quantized. Throws kUnsupported for another quant_method, format,
  // type or actorder, kCorrupt for contradictions.
  static std::optional<QuantizationConfig> load(const Checkpoint& checkpoint);
  // The scheme of a linear by our name ("decoder.layers.0.mlp.up_proj"), or nothing if it stays float.
  std::optional<LinearScheme> find(std::string_view linear) const;

 private:
  std::map<std::string, LinearScheme, std::less<>> linears_;
};

// Reads one linear's codes and scales; `linear` is our name. Throws kNotFound or kCorrupt, naming the tensor.
QuantizedWeight load_quantized_weight(const Checkpoint& checkpoint, std::string_view linear, const Scheme& scheme);

}  // namespace qvlm
