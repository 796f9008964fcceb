// What mixed precision may choose among, and what it costs.
#pragma once

#include <qvlm/recipe.h>

#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/declare_quantization.h"
#include "model/linear_list.h"

namespace qvlm {

// Quantized linears of a decoder layer that share their input, and so what is done to it.
struct PrecisionUnit {
  std::int64_t layer = 0;
  int input = 0;                       // NamedLinear::input
  std::vector<std::string> linears;    // whole names
  std::int64_t weights = 0;            // values of them
  std::vector<LinearSchemes> schemes;  // by candidate; the first is what the recipe says
  std::vector<std::int64_t> bytes;     // of their tensors, by candidate
  // Of all that is multiplied with them, by candidate: bits of an input times values.
  std::vector<std::int64_t> activation_bits;

  // By candidate, what the target counts.
  const std::vector<std::int64_t>& cost(PrecisionTarget::Kind kind) const {
    return kind == PrecisionTarget::Kind::kActivationBits ? activation_bits : bytes;
  }
};

struct PrecisionChoice {
  std::vector<PrecisionUnit> units;  // in data order
  PrecisionTarget target;
  std::int64_t other_bytes = 0;  // of the result's tensors that no unit has

  std::int64_t weights() const;
  // Of the units, were each of the candidate with the least of it; see PrecisionUnit::cost().
  std::int64_t least_cost(PrecisionTarget::Kind kind) const;
  // What the target leaves the units, as PrecisionUnit::cost() counts. REQUIRES: it is not a
  // divergence.
  std::int64_t budget() const;
};

// Layer-forwards of measuring them, in a decoder of so many layers.
std::int64_t precision_forwards(const PrecisionChoice& choice, std::int64_t layers);

// REQUIRES: the recipe has `precision`. schemes: of the recipe. Throws kInvalidArgument where no
// linear of the decoder is quantized, for a candidate that does not fit one or takes bytes that the
// target does not count, or for a target of bytes or bits that even the smallest candidates exceed.
PrecisionChoice list_precision_units(const Checkpoint& source,
                                     const Recipe& recipe,
                                     const std::vector<LinearShape>& linears,
                                     const LinearSchemes& schemes);

}  // namespace qvlm
