// Operands for kernel tests, and the product written without any packing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/dispatch.h"

namespace qvlm::kernels {

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

// How the weights of a case are quantized.
struct WeightFormat {
  int bits = 8;
  std::int64_t group_size = 0;
  bool symmetric = true;
};

// One linear layer, with the memory that PlainWeights points into.
struct LinearCase {
  std::int64_t out = 0, in = 0;
  WeightFormat format;
  std::vector<std::int8_t> codes;        // [out, in]
  std::vector<float> scales;             // [out, groups]
  std::vector<std::int8_t> zero_points;  // [out, groups] or empty

  std::int64_t groups() const {
    return format.group_size == 0 ? 1 : (in - 1) / format.group_size + 1;
  }
  PlainWeights plain() const {
    return {out, in, format.bits, format.group_size, codes, scales, zero_points};
  }
  PackedWeights pack() const { return pack_weights(plain()); }
};

inline LinearCase random_linear(std::int64_t out,
                                std::int64_t in,
                                const WeightFormat& format,
                                std::mt19937& random) {
  LinearCase linear{out, in, format, random_codes(out * in, format.bits, random), {}, {}};
  linear.scales = random_floats(out * linear.groups(), random);
  if (!format.symmetric) {
    linear.zero_points = random_codes(out * linear.groups(), format.bits, random);
  }
  return linear;
}

// Rows with the given codes [rows, in] and scales, as quantize_rows() would leave them.
inline QuantizedRows make_rows(const std::vector<std::int8_t>& codes,
                               const std::vector<float>& scales,
                               std::int64_t in,
                               std::int64_t group_size) {
  QuantizedRows rows;
  rows.resize(static_cast<std::int64_t>(scales.size()), in, group_size);
  rows.scales = scales;
  rows.codes.assign(rows.codes.size(), 0);
  rows.sums.assign(rows.sums.size(), 0);
  const std::int64_t groups =
      static_cast<std::int64_t>(rows.sums.size()) / std::max<std::int64_t>(rows.rows, 1);
  for (std::int64_t m = 0; m < rows.rows; ++m) {
    for (std::int64_t k = 0; k < in; ++k) {
      const std::int8_t code = codes[static_cast<std::size_t>(m * in + k)];
      rows.codes[static_cast<std::size_t>(m * row_stride(in) + k)] = code;
      const std::int64_t group = group_size == 0 ? 0 : k / group_size;
      rows.sums[static_cast<std::size_t>(m * groups + group)] += code;
    }
  }
  return rows;
}

inline QuantizedRows random_rows(std::int64_t rows,
                                 std::int64_t in,
                                 std::int64_t group_size,
                                 std::mt19937& random) {
  return make_rows(random_codes(rows * in, 8, random), random_floats(rows, random), in, group_size);
}

// The formula of qvlm/kernels.h, with its order of float steps: [rows, out].
inline std::vector<float> naive_product(const LinearCase& linear,
                                        const QuantizedRows& rows,
                                        const float* bias) {
  std::vector<float> result;
  const std::int64_t group_size =
      linear.format.group_size == 0 ? linear.in : linear.format.group_size;
  for (std::int64_t m = 0; m < rows.rows; ++m) {
    for (std::int64_t n = 0; n < linear.out; ++n) {
      const std::int8_t* weight = linear.codes.data() + n * linear.in;
      const std::int8_t* activation = rows.codes.data() + m * row_stride(linear.in);
      float total = 0.0f;
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < linear.in; ++k) {
        const auto place = static_cast<std::size_t>(n * linear.groups() + k / group_size);
        const int zero = linear.zero_points.empty() ? 0 : linear.zero_points[place];
        sum += std::int64_t{weight[k] - zero} * activation[k];
        const bool ends_group = (k + 1) % group_size == 0 || k + 1 == linear.in;
        if (!ends_group) continue;
        total += static_cast<float>(sum) * linear.scales[place];
        sum = 0;
      }
      total *= rows.scales[static_cast<std::size_t>(m)];
      result.push_back(bias == nullptr ? total : total + bias[n]);
    }
  }
  return result;
}

// Where a whole product goes.
inline Output output_to(std::vector<float>& values, std::int64_t out, const float* bias = nullptr) {
  Output output;
  output.values = values.data();
  output.stride = out;
  output.bias = bias;
  return output;
}

inline std::vector<float> product(const PackedWeights& weights,
                                  const QuantizedRows& rows,
                                  const float* bias = nullptr) {
  std::vector<float> out(static_cast<std::size_t>(rows.rows * weights.out));
  matmul(weights, rows, 0, weights.out, output_to(out, weights.out, bias));
  return out;
}

}  // namespace qvlm::kernels
