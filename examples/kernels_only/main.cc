// A low-bit matrix product without LibTorch and without a model: pack the weights of a linear once,
// quantize the activations of each batch, multiply, and compare with the same sum in float.
#include <qvlm/kernels.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <random>
#include <vector>

namespace {

namespace kernels = qvlm::kernels;

constexpr std::int64_t kOut = 1024, kIn = 1024, kRows = 16, kGroup = 128;

// Weight codes as a 4-bit quantizer makes them: [out, in] in [-8, 7], a scale per 128 neighbours.
struct Weights {
  std::vector<std::int8_t> codes = std::vector<std::int8_t>(kOut * kIn);
  std::vector<float> scales = std::vector<float>(kOut * kIn / kGroup);
};

Weights make_weights(std::mt19937& random) {
  Weights weights;
  std::uniform_int_distribution<int> code(-8, 7);
  std::uniform_real_distribution<float> scale(0.001f, 0.01f);
  for (std::int8_t& value : weights.codes)
    value = static_cast<std::int8_t>(code(random));
  for (float& value : weights.scales)
    value = scale(random);
  return weights;
}

std::vector<float> make_activations(std::mt19937& random) {
  std::vector<float> values(kRows * kIn);
  std::normal_distribution<float> normal;
  for (float& value : values)
    value = normal(random);
  return values;
}

// [rows, out]: what the product would be if activations were not rounded.
std::vector<float> multiply_in_float(const Weights& weights, const std::vector<float>& values) {
  std::vector<float> result;
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t out = 0; out < kOut; ++out) {
      float sum = 0.0f;
      for (std::int64_t in = 0; in < kIn; ++in) {
        const auto weight = static_cast<std::size_t>(out * kIn + in);
        sum += values[static_cast<std::size_t>(row * kIn + in)] *
               static_cast<float>(weights.codes[weight]) * weights.scales[weight / kGroup];
      }
      result.push_back(sum);
    }
  }
  return result;
}

// |result - expected|^2 / |expected|^2.
double relative_error(const std::vector<float>& result, const std::vector<float>& expected) {
  double difference = 0.0, total = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(result[i]) - static_cast<double>(expected[i]), 2);
    total += std::pow(static_cast<double>(expected[i]), 2);
  }
  return difference / total;
}

// Calls fn a few times; the least of their microseconds is the one that nothing else disturbed.
template <typename Fn>
double microseconds(const Fn& fn) {
  double least = INFINITY;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    fn();
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    least = std::min(least, time.count());
  }
  return least;
}

int compare() {
  std::mt19937 random(1);
  const Weights weights = make_weights(random);
  const std::vector<float> values = make_activations(random);

  // Once per model: the codes in the order in which the kernels read them.
  const kernels::PackedWeights packed = kernels::pack_weights({.out = kOut,
                                                               .in = kIn,
                                                               .bits = 4,
                                                               .group_size = kGroup,
                                                               .codes = weights.codes,
                                                               .scales = weights.scales});
  // Once per batch; the buffers can be kept for the next one.
  kernels::QuantizedRows rows;
  rows.resize(kRows, kIn, kGroup);
  std::vector<float> result(kRows * kOut);
  kernels::Output output;
  output.values = result.data();
  output.stride = kOut;
  // There are no threads inside: split the rows of the first call and the columns of the second
  // over yours, the bits stay the same.
  const double low_bit = microseconds([&] {
    kernels::quantize_rows(values.data(), {.bits = 8}, 0, kRows, rows);
    kernels::matmul(packed, rows, 0, kOut, output);
  });

  std::vector<float> expected;
  const double plain = microseconds([&] { expected = multiply_in_float(weights, values); });
  const double error = relative_error(result, expected);
  const auto level = kernels::cpu_level_name(kernels::cpu_level());
  std::printf("4-bit weights, 8-bit activations, %d x %d x %d, %.*s\n", static_cast<int>(kRows),
              static_cast<int>(kIn), static_cast<int>(kOut), static_cast<int>(level.size()),
              level.data());
  std::printf("relative error  %.2e  (from rounding the activations)\n", error);
  std::printf("time            %.0f us, plain float loop %.0f us\n", low_bit, plain);
  // Rounding to 8 bits is uniform within half a step; a step is absmax / 127.5, absmax of 1024
  // normal numbers about 3.2: (3.2 / 127.5)^2 / 12 = 5e-5 of their variance.
  return error < 2e-4 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return compare();
  } catch (const std::exception& error) {  // QVLM_CPU_LEVEL may name a level that this CPU lacks
    std::fprintf(stderr, "kernels_only: %s\n", error.what());
    return 1;
  }
}
