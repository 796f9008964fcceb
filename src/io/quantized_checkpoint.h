// Quantized linears in compressed-tensors form (docs/formats.md): the tensors beside each module.
// Which linear has which scheme is io/quantization_config.h; writing whole folders is
// io/quantized_checkpoint_writer.h; packing of kernel layouts is kernels/, never this file.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <qvlm/scheme.h>

#include "io/checkpoint.h"
#include "io/quantization_config.h"

namespace qvlm {

// One linear's weight as codes. real[o, i] = (codes[o, i] - zero_points[o, g]) * scales[o, g].
struct QuantizedWeight {
  Scheme scheme;
  std::int64_t out = 0, in = 0;
  std::int64_t groups = 1;               // 1 for kChannel and kTensor, else in / group_size
  std::vector<std::int8_t> codes;        // [out, in], signed
  std::vector<float> scales;             // [out, groups]; kTensor: repeated for every row
  std::vector<std::int8_t> zero_points;  // [out, groups], empty when symmetric
};

// Whether groups divide `in`: no part of qvlm computes a shorter last group.
bool has_whole_groups(const Scheme& scheme, std::int64_t in);
// Groups along `in`.
std::int64_t group_count(const Scheme& scheme, std::int64_t in);

// Reads one linear's codes and scales; `linear` is our name. Throws kNotFound or kCorrupt, naming
// the tensor, or kUnsupported for groups that do not divide the inputs.
QuantizedWeight load_quantized_weight(const Checkpoint& checkpoint,
                                      std::string_view linear,
                                      const Scheme& scheme);

// How one linear lies in the files.
struct StoredLinear {
  bool packed = false;              // int32 words and a weight_shape, else one byte per code
  std::vector<TensorInfo> tensors;  // names begin with the module's name in the files
};

// The form qvlm writes a linear in: packed for 2, 4 and 8 bits, one byte per code otherwise and for
// W8A8.
bool is_stored_packed(const LinearScheme& scheme);
// The tensors of a linear; scales take the dtype of the float weight.
StoredLinear describe_stored(std::string_view module,
                             const LinearScheme& scheme,
                             std::int64_t out,
                             std::int64_t in,
                             DType scale_dtype);
// The bytes of those tensors, by their names. Throws kInternal for a weight that contradicts
// `scheme`, codes out of range, or scales that are not finite, positive and exact in `scale_dtype`.
std::map<std::string, std::vector<std::byte>> encode_stored(std::string_view module,
                                                            const LinearScheme& scheme,
                                                            const QuantizedWeight& weight,
                                                            DType scale_dtype);

}  // namespace qvlm
