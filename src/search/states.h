// The hidden states of a calibration set between two units, one tensor a sample, and the work that
// is done on all of them: samples are shared out over the threads and each runs on one, so that
// numbers do not depend on how many there are.
#pragma once

#include <qvlm/recipe.h>

#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace qvlm {

using States = std::vector<at::Tensor>;  // each [tokens, hidden] float32

// Calls fn(index) for every sample. fn may be called from several threads.
void for_samples(std::size_t count, const std::function<void(std::size_t)>& fn);

// What a unit makes of every state.
States map_states(const States& in, const std::function<at::Tensor(const at::Tensor&)>& fn);

// |difference|^2 of every token, relative: by |reference|^2. [tokens] float32. REQUIRES: equal
// shapes.
at::Tensor token_errors(const at::Tensor& state, const at::Tensor& reference, ErrorMeasure measure);

// What is added up to an error.
struct ErrorTerms {
  ErrorMeasure measure = ErrorMeasure::kRelative;
  std::vector<at::Tensor> weights;  // of the tokens of each sample, [tokens] float32; empty: all 1
};

// How far `states` are from `reference`: kRelative is the mean over tokens of |difference|^2 /
// |reference|^2, the first token of each sample left out (its norm is often hundreds of times that
// of the others, and it is the same for every prompt); kSquared is the mean over all tokens of
// |difference|^2. Means are weighed. NaN or infinity counts as infinite. REQUIRES: equal shapes.
double state_error(const States& states, const States& reference, const ErrorTerms& terms);

// Those from `begin` to before `end`.
template <typename T>
std::vector<T> slice(const std::vector<T>& all, std::size_t begin, std::size_t end) {
  return {all.begin() + static_cast<std::ptrdiff_t>(begin),
          all.begin() + static_cast<std::ptrdiff_t>(end)};
}

// The samples with even places, or those with odd ones.
template <typename T>
std::vector<T> every_second(const std::vector<T>& all, std::size_t first) {
  std::vector<T> half;
  for (std::size_t i = first; i < all.size(); i += 2)
    half.push_back(all[i]);
  return half;
}

}  // namespace qvlm
