// Calibration samples: manifest items as the model sees them, pixels and token ids, with the kind
// of every position.
#pragma once

#include <qvlm/quantize.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "calib/manifest.h"
#include "model/unit.h"

namespace qvlm {

enum class TokenKind : std::uint8_t { kText, kImage, kAnswer };

struct CalibrationSamples {
  std::vector<StreamedSample> samples;        // pixels and ids, nothing run yet
  std::vector<std::vector<TokenKind>> kinds;  // of each position, image positions expanded
};

// Renders each item's turns and answer as the model's chat format has them, tokenizes, expands
// image positions, adds the end token, and decodes the pixels (none for an item without an image).
// Answer positions are those of the answer's own tokens and of the end token behind it. `model`:
// the folder with tokenizer and processor files. Throws what reading them does and, naming the
// item, what reading its image does, kInvalidArgument for more positions than the model has,
// kUnsupported for more than one image.
CalibrationSamples load_samples(const std::filesystem::path& model,
                                const std::vector<CalibrationItem>& items);

// Counts the positions of each kind in samples that were drawn from a manifest.
CalibrationReport describe_samples(const CalibrationSamples& samples, const Manifest& manifest);

}  // namespace qvlm
