#include "kernels/layout.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

std::int64_t divide_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}

void check(bool condition, const std::string& expected) {
  if (!condition) throw std::invalid_argument("[pack_weights] expected " + expected);
}

struct Place {
  std::size_t byte;
  int shift;
};

// Where the code of output n, input k is.
Place place_of(const PackedWeights& weights, std::int64_t n, std::int64_t k) {
  const std::int64_t step = n / kPanel * divide_up(weights.in, kStep) + k / kStep;
  const std::int64_t quad = k % kStep / 4;
  const std::int64_t in_quad = n % kPanel * 4 + k % 4;
  if (weights.bits == 4) {
    return {static_cast<std::size_t>(step * kStepBytes4 + in_quad), quad == 0 ? 0 : 4};
  }
  return {static_cast<std::size_t>(step * kStepBytes8 + quad * kQuadBytes + in_quad), 0};
}

std::size_t scale_index(std::int64_t n, std::int64_t group, std::int64_t groups) {
  return static_cast<std::size_t>((n / kPanel * groups + group) * kPanel + n % kPanel);
}

void check_sizes(std::size_t codes,
                 std::size_t scales,
                 std::int64_t out,
                 std::int64_t in,
                 int bits,
                 std::int64_t group_size) {
  check(bits >= 2 && bits <= 8, "2 to 8 bits, got " + std::to_string(bits));
  check(out > 0 && in > 0,
        "out > 0 and in > 0, got " + std::to_string(out) + " x " + std::to_string(in));
  check(out < (std::int64_t{1} << 31) && in < (std::int64_t{1} << 31), "sizes below 2^31");
  check(group_size >= 0 && group_size % kStep == 0,
        "a group size that is 0 or a multiple of 8, got " + std::to_string(group_size));
  check(codes == static_cast<std::size_t>(out) * static_cast<std::size_t>(in),
        "out * in codes, got " + std::to_string(codes));
  // An integer sum over a group is at most length * 2^(bits-1) * 128 in size and has to stay below
  // 2^31: up to 131071 codes of 8 bits. Sums inside a kernel may wrap around; the final one is then
  // right.
  const std::int64_t length = group_size == 0 ? in : std::min(group_size, in);
  check(length < (std::int64_t{1} << (31 - 7 - (bits - 1))),
        "groups whose sums fit 32 bits, got length " + std::to_string(length));
  const std::int64_t groups = group_size == 0 ? 1 : divide_up(in, group_size);
  check(scales == static_cast<std::size_t>(out) * static_cast<std::size_t>(groups),
        "out * groups scales, got " + std::to_string(scales));
}

}  // namespace

std::int64_t group_count(const PackedWeights& weights) {
  return weights.group_size == 0 ? 1 : divide_up(weights.in, weights.group_size);
}

PackedWeights pack_weights(std::span<const std::int8_t> codes,
                           std::span<const float> scales,
                           std::int64_t out,
                           std::int64_t in,
                           int bits,
                           std::int64_t group_size) {
  check_sizes(codes.size(), scales.size(), out, in, bits, group_size);
  PackedWeights packed;
  packed.bits = bits <= 4 ? 4 : 8;
  packed.out = out;
  packed.in = in;
  packed.group_size = group_size;
  const std::int64_t groups = group_count(packed);
  const std::int64_t panels = divide_up(out, kPanel);
  const std::int64_t steps = divide_up(in, kStep);
  const std::int64_t step_bytes = packed.bits == 4 ? kStepBytes4 : kStepBytes8;
  // Code 0 everywhere, so that the padding is code 0.
  packed.codes.assign(static_cast<std::size_t>(panels * steps * step_bytes),
                      packed.bits == 4 ? 0x88 : 0x80);
  packed.scales.assign(static_cast<std::size_t>(panels * groups * kPanel), 0.0f);
  const int limit = 1 << (bits - 1);
  for (std::int64_t n = 0; n < out; ++n) {
    for (std::int64_t k = 0; k < in; ++k) {
      const int code = codes[static_cast<std::size_t>(n * in + k)];
      if (code < -limit || code >= limit) {
        check(false, "codes of " + std::to_string(bits) + " bits, got " + std::to_string(code));
      }
      const Place place = place_of(packed, n, k);
      // Exclusive or turns the zero code there into this one: adding 2^(bits-1) flips just the top
      // bit.
      const int mask = packed.bits == 4 ? 0x0f : 0xff;
      packed.codes[place.byte] ^= static_cast<std::uint8_t>((code & mask) << place.shift);
    }
    for (std::int64_t group = 0; group < groups; ++group) {
      packed.scales[scale_index(n, group, groups)] =
          scales[static_cast<std::size_t>(n * groups + group)];
    }
  }
  return packed;
}

UnpackedWeights unpack_weights(const PackedWeights& weights) {
  const std::int64_t groups = group_count(weights);
  UnpackedWeights plain;
  for (std::int64_t n = 0; n < weights.out; ++n) {
    for (std::int64_t k = 0; k < weights.in; ++k) {
      const Place place = place_of(weights, n, k);
      const int mask = weights.bits == 4 ? 0x0f : 0xff;
      const int stored = (weights.codes[place.byte] >> place.shift) & mask;
      plain.codes.push_back(static_cast<std::int8_t>(stored - (1 << (weights.bits - 1))));
    }
    for (std::int64_t group = 0; group < groups; ++group) {
      plain.scales.push_back(weights.scales[scale_index(n, group, groups)]);
    }
  }
  return plain;
}

}  // namespace qvlm::kernels
