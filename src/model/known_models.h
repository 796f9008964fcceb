// Shapes of published models, for measuring without their weights.
#pragma once

#include <string_view>

#include "io/hf_config.h"

namespace qvlm {

inline constexpr std::string_view kKnownModels = "llava-1.5-7b, llava-1.5-13b";

// The configuration of a published model; `layers` above 0 keeps the first so many of the decoder
// and has as many of the vision tower run, all other sizes are the model's. Throws
// kInvalidArgument for another name or more layers than the decoder has.
ModelConfig make_known_config(std::string_view model, std::int64_t layers);

}  // namespace qvlm
