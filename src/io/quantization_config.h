// The schemes a checkpoint declares: quantization_config in config.json, refined by qvlm.json when
// there is one. Reading the codes themselves is io/quantized_checkpoint.h.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <qvlm/scheme.h>

#include "io/checkpoint.h"

namespace qvlm {

// File name and "format" value of our own document beside config.json.
inline constexpr const char* kOwnFile = "qvlm.json";
inline constexpr const char* kOwnFormat = "qvlm-1";
// Key of the document's relative errors of the quantized linears, by our names.
inline constexpr const char* kRelativeErrors = "relative_errors";
// Key of the document's list of tensors, by our names, that a recipe changed without quantizing
// them.
inline constexpr const char* kReplaced = "replaced";
// Key in the metadata of the weight files that come with such a document; its value is kOwnFormat.
inline constexpr const char* kOwnMark = "qvlm";

// Our names of all linears of a checkpoint, quantized or not, in name order: matrices that are no
// embedding.
std::vector<std::string> find_linears(const Checkpoint& checkpoint);

class QuantizationConfig {
 public:
  // Empty optional when the checkpoint is not quantized. Throws kUnsupported for another
  // quant_method, format, type or actorder, kCorrupt for contradictions.
  static std::optional<QuantizationConfig> load(const Checkpoint& checkpoint);
  // The scheme of a linear by our name ("decoder.layers.0.mlp.up_proj"), or nothing if it stays
  // float.
  std::optional<LinearScheme> find(std::string_view linear) const;
  // All quantized linears by our names.
  const std::map<std::string, LinearScheme, std::less<>>& linears() const { return linears_; }

 private:
  std::map<std::string, LinearScheme, std::less<>> linears_;
};

}  // namespace qvlm
