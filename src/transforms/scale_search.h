// How far to go in moving size from inputs to weights: tried out on some of the inputs, as the
// quantized linears would multiply them; of a rotation to come, what it does to the side of the
// inputs.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "io/declare_quantization.h"
#include "model/linear_list.h"
#include "model/weight_source.h"
#include "transforms/rotation.h"

namespace qvlm {

// Linears that share their input, in float and as the recipe quantizes them.
class ScaleSearch {
 public:
  // Loads the weights of those that `schemes` has. rows: [tokens, in] float32, of their input.
  // turn: what inputs and weights go through behind the scales, before they are rounded.
  ScaleSearch(const WeightSource& weights,
              const std::vector<LinearShape>& linears,
              const LinearSchemes& schemes,
              at::Tensor rows,
              Rotation turn = {});

  // The mean over linears of |rounded product - product|^2 / |product|^2, both summed over all
  // rows, when inputs are divided by `scales` [in] and weights multiplied. Undefined scales: as
  // they are. 0 without linears.
  double error(const at::Tensor& scales) const;

  // The alpha of 0, 0.05, ... 1 whose scales have the least error, of equal ones the lowest;
  // nothing where none has less than `otherwise`, undefined for no scales at all. Does not depend
  // on the number of threads. Beside some copies of the rows and of their products, each takes a
  // few copies of kRows rows of a weight.
  std::optional<double> find(const std::function<at::Tensor(double alpha)>& scales_of,
                             const at::Tensor& otherwise = {}) const;

  static constexpr std::int64_t kRows = 512;     // of a weight that are rounded at a time
  static constexpr std::int64_t kTokens = 1024;  // that are enough to search with

 private:
  struct Trial {
    at::Tensor weight;  // [out, in] float32
    LinearScheme scheme;
    at::ScalarType storage = at::kFloat;
    at::Tensor product;  // of the rows: [tokens, out]
    double size = 0.0;   // its squares, summed
  };
  double error(const Trial& trial, const at::Tensor& scales) const;

  std::vector<Trial> trials_;
  at::Tensor rows_;
  Rotation turn_;
};

}  // namespace qvlm
