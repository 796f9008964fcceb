// The float model that the rest of quantize() sees: the checkpoint's weights after the recipe's
// transforms.
#pragma once

#include <qvlm/quantize.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "calib/samples.h"
#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "pipeline/search_journal.h"
#include "transforms/transformed_weights.h"

namespace qvlm {

// Throws what the recipe's transforms would refuse in this model, before anything is measured.
void check_transforms(const Checkpoint& checkpoint, const Recipe& recipe);

// What a run that can be stopped keeps and asks.
struct Resumable {
  SearchJournal* journal = nullptr;  // keeps the alphas that were searched; null: nothing does
  std::function<bool()> stop_requested = {};  // asked at every layer; may be empty
};

struct TransformedModel {
  std::shared_ptr<const TransformedWeights> weights;  // null when it was stopped
  std::vector<std::int64_t> massive_channels;         // that rotations left as they are
};

// schemes: of the recipe. samples: what is measured on; may be empty for recipes that
// do not (Recipe::transforms_by_data). Progress counts layers. Throws what make_rotation() and the
// journal do, and kInternal for measuring without samples.
TransformedModel transform_weights(const Checkpoint& checkpoint,
                                   const Recipe& recipe,
                                   const LinearSchemes& schemes,
                                   const CalibrationSamples& samples,
                                   const ProgressCallback& progress,
                                   const Resumable& resumable = {});

}  // namespace qvlm
