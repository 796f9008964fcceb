// Rotation (QuaRot, Ashkboos et al. 2024): the residual stream of the decoder and the values of its
// attention are turned by Hadamard matrices, offline. The input of the down projection is turned
// while running, by its linear (LinearScheme::hadamard_input), so it is no business of this file.
#pragma once

#include <qvlm/recipe.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/hf_config.h"
#include "transforms/transformed_weights.h"

namespace qvlm {

// Linears of a decoder layer that read the residual stream behind a norm.
struct StreamReaders {
  std::string norm;  // whole names
  std::vector<std::string> linears;
};
std::vector<StreamReaders> stream_readers(std::int64_t layer);

// Whether the residual stream of this model is turned.
bool turns_residual_stream(const ModelConfig& config, const RotateOptions& options);

// Whether it, or one of these, leaves massive channels of this model as they are.
bool keeps_massive_apart(const ModelConfig& config, const RotateOptions& options);
bool keeps_massive_apart(const ModelConfig& config, const std::vector<Transform>& transforms);

// What the residual stream is turned by. massive: channels of it that stay as they are.
Rotation stream_rotation(const ModelConfig& config,
                         const RotateOptions& options,
                         const std::vector<std::int64_t>& massive);

// What the values of every head are turned by; none where options say so.
Rotation value_rotation(const ModelConfig& config, const RotateOptions& options);

// weights: as they are now; gains are read from them, since a norm commutes with a turn only once
// its gain is part of the weights behind it. massive: channels of the residual stream that stay as
// they are, gains included. Throws kUnsupported where the residual stream of a
// model with a tied head is to be turned: its table would have to hold two different matrices; and
// kInvalidArgument where nothing is turned.
TensorMaps make_rotation(const ModelConfig& config,
                         const WeightSource& weights,
                         const RotateOptions& options,
                         const std::vector<std::int64_t>& massive = {});

}  // namespace qvlm
