#include "search/entropy_gradient.h"

#include "search/differentiate.h"

namespace qvlm {
namespace {

constexpr std::int64_t kPiece = 1 << 16;  // values; their soft codes take 4 MB

at::Tensor flatten(const States& states) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& state : states)
    flat.push_back(state.flatten());
  return at::cat(flat);
}

}  // namespace

EntropyGradient differentiate_entropy(const LayerOutputs& below, const LayerOutputs& above) {
  const at::Tensor all = flatten(below.states);
  const at::Tensor table = joint_table(all, below.grid, flatten(above.states), above.grid);
  const Differential entropy = differentiate(table, conditional_entropy);

  // The table is a mean over all values, so each piece gives its share of the gradient by itself.
  EntropyGradient result{entropy.value, below.states, above.states};
  const auto total = static_cast<double>(all.numel());
  for_samples(below.states.size(), [&](std::size_t sample) {
    const c10::InferenceMode with_gradients(false);
    const at::Tensor &low = below.states[sample], &high = above.states[sample];
    const std::vector<at::Tensor> lows = low.flatten().split(kPiece);
    const std::vector<at::Tensor> highs = high.flatten().split(kPiece);
    std::vector<at::Tensor> at_low, at_high;
    for (std::size_t i = 0; i < lows.size(); ++i) {
      const at::Tensor a = lows[i].detach().set_requires_grad(true);
      const at::Tensor b = highs[i].detach().set_requires_grad(true);
      const double share = static_cast<double>(a.numel()) / total;
      joint_table(a, below.grid, b, above.grid).backward(entropy.gradient * share);
      at_low.push_back(a.grad());
      at_high.push_back(b.grad());
    }
    result.below[sample] = at::cat(at_low).reshape(low.sizes());
    result.above[sample] = at::cat(at_high).reshape(high.sizes());
  });
  return result;
}

}  // namespace qvlm
