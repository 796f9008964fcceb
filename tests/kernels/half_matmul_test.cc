#include "kernels/half_matmul.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

double value_of(std::uint16_t bits, HalfType type) {
  if (type == HalfType::kBfloat16) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

// Every float16 and every bfloat16 of a weight's size, one at a time: the product with 1 is exact.
TEST(HalfMatmul, ReadsEveryNumber) {
  for (const HalfType type : {HalfType::kBfloat16, HalfType::kFloat16}) {
    std::vector<std::uint16_t> weights;
    for (int bits = 0; bits < 0x10000; ++bits) {
      const bool finite = (bits & 0x7fff) < (type == HalfType::kFloat16 ? 0x7c00 : 0x7f80);
      if (finite) weights.push_back(static_cast<std::uint16_t>(bits));
    }
    const auto out = static_cast<std::int64_t>(weights.size());
    std::vector<float> result(weights.size());
    const float one = 1.0f;
    matmul({weights.data(), type, 1, &one, 1, nullptr, result.data(), out}, 0, out);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      ASSERT_EQ(result[i], value_of(weights[i], type)) << weights[i];
    }
  }
}

// A float32 sum of n products is off by at most n * 2^-23 of the sum of their magnitudes.
TEST(HalfMatmul, IsTheProductForAnySizeAndSplit) {
  std::mt19937 random(3);
  for (const HalfType type : {HalfType::kBfloat16, HalfType::kFloat16}) {
    for (const std::int64_t in : {1, 3, 15, 16, 17, 63, 64, 65, 129, 1000}) {
      constexpr std::int64_t kOut = 5, kRows = 3;
      std::vector<std::uint16_t> weights(static_cast<std::size_t>(kOut * in));
      for (std::uint16_t& weight : weights) {  // magnitudes between 1/2 and 4, both signs
        weight = static_cast<std::uint16_t>((random() & 0x83ff) | 0x3c00);
      }
      const std::vector<float> values = random_floats(kRows * in, random);
      const std::vector<float> bias = random_floats(kOut, random);
      std::vector<float> result(kRows * 7, -7.0f);
      const HalfMatmul product{weights.data(), type,          in, values.data(), kRows,
                               bias.data(),    result.data(), 7};
      matmul(product, 0, 2);
      matmul(product, 2, 2);
      matmul(product, 2, kOut);
      for (std::int64_t m = 0; m < kRows; ++m) {
        for (std::int64_t n = 0; n < kOut; ++n) {
          double sum = bias[static_cast<std::size_t>(n)], size = std::fabs(sum);
          for (std::int64_t k = 0; k < in; ++k) {
            const double term = value_of(weights[static_cast<std::size_t>(n * in + k)], type) *
                                values[static_cast<std::size_t>(m * in + k)];
            sum += term;
            size += std::fabs(term);
          }
          ASSERT_NEAR(result[static_cast<std::size_t>(m * 7 + n)], sum,
                      static_cast<double>(in + 1) * 0x1p-23 * size);
        }
        ASSERT_EQ(result[static_cast<std::size_t>(m * 7 + kOut)], -7.0f);
      }
    }
  }
}

}  // namespace
}  // namespace qvlm::kernels
