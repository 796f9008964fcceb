// Applying a recipe (include/qvlm/recipe.h) to a model: which linear gets which scheme.
#pragma once

#include <qvlm/recipe.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/linear_list.h"

namespace qvlm {

// The scheme of every linear that is quantized; the others stay float. Throws kInvalidArgument if a
// pattern matches no linear, a group size does not divide a linear's inputs, or nothing is
// quantized at all.
std::map<std::string, LinearScheme> apply_recipe(const Recipe& recipe,
                                                 const std::vector<LinearShape>& linears);

}  // namespace qvlm
