#include "search/watched_layer.h"

#include <vector>

namespace qvlm {

DecoderLayer watch_inputs(const DecoderLayer& layer, const SeeInput& see) {
  DecoderLayer watched = layer;
  std::vector<InputRounding> taps;
  for (std::size_t input = 0; input < DecoderLayer::kInputs; ++input) {
    taps.push_back(make_rounding([&see, input](const at::Tensor& x) {
      see(input, x);
      return x;
    }));
  }
  for (const NamedLinear& place : watched.linears()) {
    *place.linear = Linear(place.linear->dense_weight(), place.linear->bias(),
                           taps[static_cast<std::size_t>(place.input)]);
  }
  return watched;
}

}  // namespace qvlm
