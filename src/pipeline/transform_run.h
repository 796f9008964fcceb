// The float model that the rest of quantize() sees: the checkpoint's weights after the recipe's
// transforms.
#pragma once

#include <qvlm/quantize.h>

#include <memory>

#include "calib/samples.h"
#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "transforms/transformed_weights.h"

namespace qvlm {

// schemes: of the recipe. samples: what smoothing is measured on; may be empty for recipes that do
// not smooth. Progress
// counts layers. Throws what make_rotation() does, and kInternal for smoothing without samples.
std::shared_ptr<const TransformedWeights> transform_weights(const Checkpoint& checkpoint,
                                                            const Recipe& recipe,
                                                            const LinearSchemes& schemes,
                                                            const CalibrationSamples& samples,
                                                            const ProgressCallback& progress);

}  // namespace qvlm
