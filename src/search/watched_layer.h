// A decoder layer that shows what its linears read.
#pragma once

#include <cstddef>
#include <functional>

#include "model/llama.h"

namespace qvlm {

// The layer in float, calling see(input, x) when it computes, by NamedLinear::input and with the
// tensor itself. `see` must live as long. REQUIRES: linears whose weights are float.
using SeeInput = std::function<void(std::size_t input, const at::Tensor& x)>;
DecoderLayer watch_inputs(const DecoderLayer& layer, const SeeInput& see);

}  // namespace qvlm
