// What has to be right with a model before anything is done with it, seen from the headers of its
// files alone: quantize(), plan_quantize() and analyze() begin with this. Values are looked at when
// they are read.
#pragma once

#include "io/checkpoint.h"
#include "model/linear_list.h"

namespace qvlm {

// Throws kUnsupported for a model that is quantized already; kNotFound or kCorrupt, naming the
// tensor, for a linear that is missing, is no floating-point matrix or has another shape than
// config.json says.
void check_source(const Checkpoint& checkpoint, const std::vector<LinearShape>& linears);

}  // namespace qvlm
