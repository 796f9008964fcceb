// The quantization_config that a checkpoint of ours carries: what other engines read to run it.
// Activations are declared only where the format can hold them (W8A8); qvlm.json tells the rest to
// our own reader.
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "io/quantization_config.h"

namespace qvlm {

using LinearSchemes = std::map<std::string, LinearScheme, std::less<>>;  // by our names

// `source` is the float checkpoint: its names and its list of linears are used. `linears` is not
// empty.
Json make_quantization_config(const Checkpoint& source, const LinearSchemes& linears);

}  // namespace qvlm
