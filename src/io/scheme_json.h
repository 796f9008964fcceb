// Schemes as JSON, in the two spellings that quantized checkpoints use: ours (qvlm.json) and the
// arguments of compressed-tensors (config.json).
#pragma once

#include <qvlm/scheme.h>

#include "base/json.h"

namespace qvlm {

// {"bits": 4, "symmetric": true, "granularity": "group", "group_size": 128, "dynamic": false,
// "clip_ratio": 1.0}
Json scheme_to_json(const Scheme& scheme);
// Throws kCorrupt, kNotFound or (a scheme that qvlm does not compute) kUnsupported, naming the key.
Scheme weight_from_json(const Json& node);
Scheme activation_from_json(const Json& node);

// {"weight": a scheme, "activation": a scheme or null, "input_scale": [0.11] with static
// activations}
Json linear_scheme_to_json(const LinearScheme& scheme);
// Also throws kCorrupt for scales that do not fit the activation scheme.
LinearScheme linear_scheme_from_json(const Json& node);

// {"num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 128,
// "dynamic": false}
Json arguments_to_json(const Scheme& scheme);
// Throws kUnsupported for floats, orders, strategies and group sizes that qvlm does not compute.
Scheme weight_from_arguments(const Json& node);
// Supported are activations quantized while running, by token.
Scheme activation_from_arguments(const Json& node);

}  // namespace qvlm
