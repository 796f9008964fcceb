// From an image to what the vision tower takes, as CLIP's image processor computes it (PIL
// backend): pad to square, resize, centre crop, rescale, normalize.
#pragma once

#include <qvlm/image.h>

#include <vector>

#include "io/hf_config.h"

namespace qvlm {

struct PixelValues {
  std::int64_t height = 0, width = 0;
  std::vector<float> values;  // [3, height, width]
};

// Throws kInvalidArgument for an empty image.
PixelValues preprocess(const Image& image, const ProcessorConfig& config);

}  // namespace qvlm
