// The part of a recipe file that is about calibration data: calibration, plan, search and
// vision_encoder.
#pragma once

#include <qvlm/recipe.h>

#include "base/yaml_reader.h"

namespace qvlm {

// Fills in what the file says. Throws like Recipe::load().
void read_search_options(const YamlReader& yaml, const YAML::Node& root, Recipe& recipe);

}  // namespace qvlm
