// The part of a recipe's YAML about the float model's transforms and how weights are rounded.
#pragma once

#include <qvlm/recipe.h>

#include "base/yaml_reader.h"

namespace qvlm {

// Reads 'transforms' and 'rounding', where they are there. Throws kInvalidArgument.
void read_transforms(const YamlReader& yaml, const YAML::Node& root, Recipe& recipe);

}  // namespace qvlm
