// Image resizing as Pillow 13 does it, bit for bit: two 8-bit passes, as a rule horizontal then
// vertical, fixed-point weights of 22 bits, filter support widened by the down-scaling factor.
#pragma once

#include <qvlm/image.h>

#include "io/hf_config.h"

namespace qvlm {

// width, height > 0. Equal sizes give a copy.
Image resize(const Image& image, int width, int height, Resample filter);

}  // namespace qvlm
