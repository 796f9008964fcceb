// Schemes: how real numbers become integer codes. The recipe states them, the checkpoint declares
// them, the quantizer and the kernels obey them, so all four share this one type.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace qvlm {

enum class Granularity {
  kTensor,   // one scale for the whole tensor
  kChannel,  // weights: one scale per output channel; activations: one per input channel
  kGroup,    // weights: one scale per output channel and group_size neighbours along `in`
  kToken,    // activations: one scale per token
};

// An affine quantizer: real = (code - zero_point) * scale, codes in [-2^(bits-1), 2^(bits-1) - 1].
struct Scheme {
  int bits = 8;           // 2..8
  bool symmetric = true;  // zero_point is 0 and scale = absmax / ((2^bits - 1) / 2)
  Granularity granularity = Granularity::kChannel;
  int group_size = 0;    // only with kGroup: 32, 64 or 128
  bool dynamic = false;  // activations: scales computed while running, nothing is stored
  // In (0, 1]: the range is this share of the measured one; of static activations: it covers this
  // share of the measured values.
  double clip_ratio = 1.0;

  friend bool operator==(const Scheme&, const Scheme&) = default;
};

// How keys and values of past positions are kept while a model runs; sums and the softmax are
// always in float32. What each costs and gains: docs/performance.md, "KV cache".
enum class KvFormat {
  kFloat32,   // as computed: the answers of the reference implementation
  kBfloat16,  // half the memory and the reading per token, rounded to 8 bits of precision
  // Codes with a scale per token and head, of rows that a Hadamard matrix has turned, which spreads
  // outlier channels over all.
  kInt8,  // a quarter
  kInt4,  // an eighth
};

// A Hadamard transform of the inputs of a linear, as kernels::make_hadamard() makes it: of each
// `width` neighbours, a matrix of `order` times Sylvester's of width / order.
struct HadamardInput {
  std::int64_t width = 0;
  std::int64_t order = 1;

  friend bool operator==(const HadamardInput&, const HadamardInput&) = default;
};

// What one linear gets. Without an activation scheme its inputs stay float (W4A16 and the like).
struct LinearScheme {
  Scheme weight;
  std::optional<Scheme> activation = {};
  // Of static activations: one value (kTensor) or one per input channel (kChannel), once measured.
  std::vector<float> input_scale = {};
  // The weight is stored with its rows transformed, so inputs are transformed likewise before
  // anything else happens to them.
  std::optional<HadamardInput> hadamard_input = {};

  friend bool operator==(const LinearScheme&, const LinearScheme&) = default;
};

}  // namespace qvlm
