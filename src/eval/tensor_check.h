// The tensors of a checkpoint against its configuration and its schemes: which there have to be, in
// which shape and type, and whether every value, dequantized where it is a code, is a finite
// number.
#pragma once

#include <cstdint>
#include <optional>

#include "io/checkpoint.h"
#include "io/hf_config.h"
#include "io/problem_list.h"
#include "io/quantization_config.h"

namespace qvlm {

// A checkpoint and what its small files say about it.
struct OpenedModel {
  Checkpoint checkpoint;
  ModelConfig config;
  std::optional<QuantizationConfig> quantization;

  // The scheme of a linear, by our name; nothing: it is float.
  std::optional<LinearScheme> find_scheme(const std::string& linear) const {
    return quantization ? quantization->find(linear) : std::nullopt;
  }
};

// The name of the weight file in which a tensor lies, by its name in the files; of the only weight
// file when no file has it, empty if there are several.
std::string weight_file_of(const Checkpoint& checkpoint, const std::string& file_name);

// Compares names, shapes and types with what the model needs. Returns the number of tensors.
std::int64_t check_tensor_list(const OpenedModel& model, ProblemList& problems);

// Reads every linear that is quantized and dequantizes it: codes in range, scales positive and
// finite, real numbers finite, and the packed product equal to that of the real numbers
// (product_check.h). Returns the number of linears.
std::int64_t check_quantized_linears(const OpenedModel& model,
                                     ProblemList& problems,
                                     const BytesRead& on_bytes);

// Reads every other tensor: all values finite. Returns the number of tensors.
std::int64_t check_float_tensors(const OpenedModel& model,
                                 ProblemList& problems,
                                 const BytesRead& on_bytes);

}  // namespace qvlm
