// One product of the public kernel interface as a caller runs it: activations in float go in,
// are made codes or bfloat16 numbers, and float or bfloat16 results come out, on several threads
// that split rows (of the activations) and columns (of the product).
#pragma once

#include <qvlm/kernels.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qvlm::bench {

// A number format under test.
struct Format {
  std::string_view name;
  int weight_bits = 8;
  int activation_bits = 8;  // 16: bfloat16
  std::int64_t group_size = 0;
};
std::span<const Format> formats();
const Format* find_format(std::string_view name);  // nullptr if there is none

// Weights in `copies` places. Rotating through more bytes than the caches hold makes a product find
// its weights in memory, as it does in a model of that size.
struct RotatedWeights {
  RotatedWeights(const Format& weight_format,
                 std::int64_t in,
                 std::int64_t out,
                 std::size_t rotated);
  std::size_t bytes() const { return copies.front().bytes(); }  // of one copy

  const Format& format;
  std::vector<kernels::PackedWeights> copies;
};

class Product {
 public:
  // Takes turns among the first `copies` of the weights, which must outlive the product.
  Product(const RotatedWeights& weights, std::int64_t rows, int threads, std::size_t copies);
  void run();

 private:
  void quantize(int thread);
  void multiply(const kernels::PackedWeights& weights, int thread);

  const RotatedWeights& weights_;
  std::int64_t rows_;
  int threads_;
  std::size_t copies_, next_ = 0;
  std::vector<float> input_, output_;
  kernels::QuantizedRows codes_;
  kernels::Bf16Rows values_;
};

}  // namespace qvlm::bench
