// How far to go in moving size from inputs to weights: tried out on some of the inputs, as the
// quantized linears would multiply them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/declare_quantization.h"
#include "model/linear_list.h"
#include "model/weight_source.h"

namespace qvlm {

// Linears that share their input, in float and as the recipe quantizes them.
class ScaleSearch {
 public:
  // Loads the weights of those that `schemes` has. rows: [tokens, in] float32, of their input.
  ScaleSearch(const WeightSource& weights,
              const std::vector<LinearShape>& linears,
              const LinearSchemes& schemes,
              at::Tensor rows);

  // Mean over the linears of |rounded product - product|^2 / |product|^2 when inputs are divided by
  // `scales` [in] and weights multiplied. Undefined scales: as they are. 0 without linears.
  double error(const at::Tensor& scales) const;

  // scales_of(alpha) with the least error among alpha = 0, 0.05, ... 1, of equal ones the lowest;
  // undefined where none has less than no scales at all. Does not depend on the number of threads.
  at::Tensor find(const std::function<at::Tensor(double alpha)>& scales_of) const;

 private:
  struct Trial {
    at::Tensor weight;  // [out, in] float32
    LinearScheme scheme;
    at::ScalarType storage = at::kFloat;
    at::Tensor product;  // [tokens, out] of the rows
  };
  std::vector<Trial> trials_;
  at::Tensor rows_;
};

}  // namespace qvlm
