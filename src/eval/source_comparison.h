// A quantized checkpoint beside the float one that it was made of.
#pragma once

#include <qvlm/verify.h>

#include <cstdint>
#include <string>
#include <vector>

#include "eval/tensor_check.h"

namespace qvlm {

struct SourceComparison {
  std::vector<VerifiedLinear> linears;
  std::vector<std::string> replaced;  // by the names in the files
  std::int64_t compared = 0;          // tensors and quantized linears that both have
};

// Opens the model at `source` and throws kInvalidArgument unless it is float and of the shapes that
// `model` has.
OpenedModel open_source(const std::filesystem::path& source, const OpenedModel& model);

// Tensors that were not quantized are the source's to the bit, unless qvlm.json lists them as
// replaced; errors of quantized linears are those that qvlm.json tells. What is not, or is missing
// on one side, goes to `problems`. Where most of it is not, the source is another model: one
// problem instead, thrown as kInvalidArgument if there were none before.
SourceComparison compare_with_source(const OpenedModel& model,
                                     const OpenedModel& source,
                                     ProblemList& problems,
                                     const BytesRead& on_bytes);

}  // namespace qvlm
