// Every linear of a model by qvlm's name and shape, in data order: what recipes match and reports
// list.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/hf_config.h"

namespace qvlm {

struct LinearShape {
  std::string name;  // "decoder.layers.0.self_attn.q_proj"
  std::int64_t out = 0, in = 0;
};

// A tied head is the embedding table, not a linear, and is not listed.
std::vector<LinearShape> list_linears(const ModelConfig& config);

// Whether a linear of this name is in vision tower or projector, or in the decoder without its
// head.
bool is_in_encoder(std::string_view linear);
bool is_in_decoder(std::string_view linear);

}  // namespace qvlm
