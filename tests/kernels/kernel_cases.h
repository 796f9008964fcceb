// Operands for kernel tests, and the product written without any packing.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "qvlm/kernels.h"

namespace qvlm::kernels {

// One linear layer in plain form.
struct PlainWeights {
  std::int64_t out = 0, in = 0;
  int bits = 8;
  std::int64_t group_size = 0;
  std::vector<std::int8_t> codes;  // [out, in]
  std::vector<float> scales;       // [out, groups]

  std::int64_t groups() const { return group_size == 0 ? 1 : (in - 1) / group_size + 1; }
  PackedWeights pack() const { return pack_weights(codes, scales, out, in, bits, group_size); }
};

inline std::vector<std::int8_t> random_codes(std::int64_t count, int bits, std::mt19937& random) {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(count));
  const int limit = 1 << (bits - 1);
  for (std::int8_t& code : codes) {
    code = static_cast<std::int8_t>(static_cast<int>(random() % (2u * limit)) - limit);
  }
  return codes;
}

inline std::vector<float> random_floats(std::int64_t count, std::mt19937& random) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(static_cast<int>(random() % 2000001) - 1000000) * 1.2345e-6f;
  }
  return values;
}

inline PlainWeights random_weights(
    std::int64_t out, std::int64_t in, int bits, std::int64_t group_size, std::mt19937& random) {
  PlainWeights weights{out, in, bits, group_size, random_codes(out * in, bits, random), {}};
  weights.scales = random_floats(out * weights.groups(), random);
  return weights;
}

inline QuantizedRows random_rows(std::int64_t rows, std::int64_t in, std::mt19937& random) {
  return {rows, in, random_codes(rows * in, 8, random), random_floats(rows, random)};
}

// The formula of qvlm/kernels.h, with its order of float steps: [rows, out].
inline std::vector<float> naive_product(const PlainWeights& weights,
                                        const QuantizedRows& rows,
                                        const float* bias) {
  std::vector<float> result;
  const std::int64_t group_size = weights.group_size == 0 ? weights.in : weights.group_size;
  for (std::int64_t m = 0; m < rows.rows; ++m) {
    for (std::int64_t n = 0; n < weights.out; ++n) {
      const std::int8_t* weight = weights.codes.data() + n * weights.in;
      const std::int8_t* activation = rows.codes.data() + m * weights.in;
      float total = 0.0f;
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < weights.in; ++k) {
        sum += std::int64_t{weight[k]} * activation[k];
        const bool ends_group = (k + 1) % group_size == 0 || k + 1 == weights.in;
        if (!ends_group) continue;
        const std::int64_t scale = n * weights.groups() + k / group_size;
        total += static_cast<float>(sum) * weights.scales[static_cast<std::size_t>(scale)];
        sum = 0;
      }
      total *= rows.scales[static_cast<std::size_t>(m)];
      result.push_back(bias == nullptr ? total : total + bias[n]);
    }
  }
  return result;
}

}  // namespace qvlm::kernels
