#include "product.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

namespace qvlm::bench {
namespace {

constexpr Format kFormats[] = {
    {"w8a8", 8, 8, 0},        {"w8a8_g128", 8, 8, 128},   {"w4a8", 4, 8, 0},
    {"w4a8_g128", 4, 8, 128}, {"w4a8_g32", 4, 8, 32},     {"w4a4", 4, 4, 0},
    {"w8a16", 8, 16, 0},      {"w4a16_g128", 4, 16, 128},
};
constexpr std::int64_t kPanel = 64;  // columns; the cheapest places to split are its multiples

// The same numbers on every machine, cheaply: the high bits of a linear congruence.
class Numbers {
 public:
  std::uint32_t next() { return (state_ = state_ * 1664525u + 1013904223u) >> 8; }
  float unit() { return static_cast<float>(next()) * 0x1p-23f - 1; }  // [-1, 1)

 private:
  std::uint32_t state_ = 1;
};

kernels::PackedWeights make_weights(const Format& format, std::int64_t in, std::int64_t out) {
  Numbers numbers;
  const std::int64_t groups =
      format.group_size == 0 ? 1 : (in + format.group_size - 1) / format.group_size;
  std::vector<std::int8_t> codes(out * in);
  for (std::int8_t& code : codes) {
    code = static_cast<std::int8_t>(static_cast<int>(numbers.next() & 0xff) - 128) >>
           (8 - format.weight_bits);
  }
  std::vector<float> scales(out * groups);
  for (float& scale : scales)
    scale = 0.01f + 0.001f * numbers.unit();
  return kernels::pack_weights({.out = out,
                                .in = in,
                                .bits = format.weight_bits,
                                .group_size = format.group_size,
                                .codes = codes,
                                .scales = scales});
}

template <typename T>
std::span<const T> copy_to(std::span<const T> from, std::byte*& to) {
  constexpr std::size_t kLine = 64;
  T* const place = reinterpret_cast<T*>(to);
  if (!from.empty()) std::memcpy(place, from.data(), from.size_bytes());
  to += (from.size_bytes() + kLine - 1) / kLine * kLine;
  return {place, from.size()};
}

struct LinesDelete {
  void operator()(std::byte* memory) const { operator delete[](memory, std::align_val_t{64}); }
};

kernels::PackedWeights copy(const kernels::PackedWeights& from) {
  kernels::PackedWeights result = from;
  std::shared_ptr<std::byte> memory(new (std::align_val_t{64}) std::byte[from.bytes() + 3 * 64],
                                    LinesDelete{});
  std::byte* place = memory.get();
  result.codes = copy_to(from.codes, place);
  result.scales = copy_to(from.scales, place);
  result.zero_points = copy_to(from.zero_points, place);
  result.memory = memory;
  return result;
}

}  // namespace

std::span<const Format> formats() {
  return kFormats;
}

const Format* find_format(std::string_view name) {
  const auto found = std::ranges::find(kFormats, name, &Format::name);
  return found == std::end(kFormats) ? nullptr : &*found;
}

RotatedWeights::RotatedWeights(const Format& weight_format,
                               std::int64_t in,
                               std::int64_t out,
                               std::size_t rotated)
    : format(weight_format) {
  copies.push_back(make_weights(format, in, out));
  while (copies.size() * bytes() < rotated)
    copies.push_back(copy(copies.front()));
}

Product::Product(const RotatedWeights& weights, std::int64_t rows, int threads, std::size_t copies)
    : weights_(weights), rows_(rows), threads_(threads), copies_(copies) {
  const kernels::PackedWeights& any = weights.copies.front();
  Numbers numbers;
  input_.resize(rows * any.in);
  for (float& value : input_)
    value = numbers.unit();
  output_.resize(rows * any.out);
  if (weights.format.activation_bits == 16) {
    values_.resize(rows, any.in, any.group_size);
  } else {
    codes_.resize(rows, any.in, any.group_size);
  }
}

void Product::run() {
  const kernels::PackedWeights& weights = weights_.copies[next_++ % copies_];
#pragma omp parallel num_threads(threads_)
  {
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads_; ++thread)
      quantize(thread);
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads_; ++thread)
      multiply(weights, thread);
  }
}

void Product::quantize(int thread) {
  const std::int64_t begin = rows_ * thread / threads_, end = rows_ * (thread + 1) / threads_;
  if (begin == end) return;
  if (weights_.format.activation_bits == 16) {
    kernels::round_rows(input_.data(), begin, end, values_);
  } else {
    kernels::quantize_rows(input_.data(), {.bits = weights_.format.activation_bits}, begin, end,
                           codes_);
  }
}

void Product::multiply(const kernels::PackedWeights& weights, int thread) {
  const std::int64_t panels = (weights.out + kPanel - 1) / kPanel;
  const std::int64_t begin = std::min(weights.out, panels * thread / threads_ * kPanel);
  const std::int64_t end = std::min(weights.out, panels * (thread + 1) / threads_ * kPanel);
  if (begin == end) return;
  const kernels::Output output{.values = output_.data(), .stride = weights.out};
  if (weights_.format.activation_bits == 16) {
    kernels::matmul(weights, values_, begin, end, output);
  } else {
    kernels::matmul(weights, codes_, begin, end, output);
  }
}

}  // namespace qvlm::bench
