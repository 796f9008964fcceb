// Every tensor that a model's configuration asks for, by qvlm's name and shape: what a complete
// checkpoint holds, before any linear is quantized. The linears alone are model/linear_list.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/hf_config.h"

namespace qvlm {

// Names and shapes, those of vision layers behind the selected features included: other programs
// want them.
std::map<std::string, std::vector<std::int64_t>> list_tensors(const ModelConfig& config);

// Whether a tensor that list_tensors() does not name is one that published checkpoints carry and no
// forward pass reads: a norm behind the last feature, tables that are computed, a head beside a
// tied one.
bool is_unread_tensor(std::string_view name, const ModelConfig& config);

}  // namespace qvlm
