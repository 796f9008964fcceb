#include "kernels/layout.h"

#include <algorithm>
#include <new>
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

// An integer sum over a group is at most length * 128 * |code - zero_point| in size, which is
// 2^(bits-1) where the zero point is 0 and 2^bits - 1 else, and has to stay below 2^31. Sums inside
// a kernel may wrap around; the final one is then right.
std::int64_t longest_group(int bits, bool symmetric) {
  const std::int64_t largest = symmetric ? 1 << (bits - 1) : (1 << bits) - 1;
  return ((std::int64_t{1} << 31) - 1) / (128 * largest);
}

void check_sizes(const PlainWeights& plain) {
  const std::int64_t out = plain.out, in = plain.in;
  check(plain.bits >= 2 && plain.bits <= 8, "2 to 8 bits, got " + std::to_string(plain.bits));
  check(out > 0 && in > 0,
        "out > 0 and in > 0, got " + std::to_string(out) + " x " + std::to_string(in));
  check(out < (std::int64_t{1} << 31) && in < (std::int64_t{1} << 31), "sizes below 2^31");
  check(plain.group_size >= 0 && plain.group_size % kStep == 0,
        "a group size that is 0 or a multiple of 8, got " + std::to_string(plain.group_size));
  check(plain.codes.size() == static_cast<std::size_t>(out) * static_cast<std::size_t>(in),
        "out * in codes, got " + std::to_string(plain.codes.size()));
  const std::int64_t length = plain.group_size == 0 ? in : std::min(plain.group_size, in);
  check(length <= longest_group(plain.bits, plain.zero_points.empty()),
        "groups whose sums fit 32 bits, got length " + std::to_string(length));
  const std::int64_t groups = plain.group_size == 0 ? 1 : divide_up(in, plain.group_size);
  check(plain.scales.size() == static_cast<std::size_t>(out) * static_cast<std::size_t>(groups),
        "out * groups scales, got " + std::to_string(plain.scales.size()));
  check(plain.zero_points.empty() || plain.zero_points.size() == plain.scales.size(),
        "no zero points or out * groups, got " + std::to_string(plain.zero_points.size()));
}

void check_codes(std::span<const std::int8_t> codes, int bits, const char* what) {
  const int limit = 1 << (bits - 1);
  for (const int code : codes) {
    if (code >= -limit && code < limit) continue;
    check(false,
          std::string(what) + " of " + std::to_string(bits) + " bits, got " + std::to_string(code));
  }
}

// What the spans of PackedWeights point into. Panels begin at a cache line, as vectors of 64 bytes
// that straddle two take twice as long.
struct Storage {
  explicit Storage(std::size_t code_bytes, std::size_t scale_count, std::size_t zero_count)
      : codes(static_cast<std::uint8_t*>(::operator new(code_bytes, kAlignment))),
        scales(scale_count),
        zero_points(zero_count) {}
  ~Storage() { ::operator delete(codes, kAlignment); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  static constexpr std::align_val_t kAlignment{64};
  std::uint8_t* codes;
  std::vector<float> scales;
  std::vector<std::int8_t> zero_points;
};

// Sizes and empty memory: every code 0, so that the padding is.
std::shared_ptr<Storage> allocate(const PlainWeights& plain, PackedWeights& packed) {
  packed.bits = plain.bits <= 4 ? 4 : 8;
  packed.out = plain.out;
  packed.in = plain.in;
  packed.group_size = plain.group_size;
  const std::int64_t panels = divide_up(plain.out, kPanel);
  const std::int64_t step_bytes = packed.bits == 4 ? kStepBytes4 : kStepBytes8;
  const auto code_bytes =
      static_cast<std::size_t>(panels * divide_up(plain.in, kStep) * step_bytes);
  const auto scale_count = static_cast<std::size_t>(panels * packed.groups() * kPanel);
  auto storage = std::make_shared<Storage>(code_bytes, scale_count,
                                           plain.zero_points.empty() ? 0 : scale_count);
  std::fill_n(storage->codes, code_bytes,
              static_cast<std::uint8_t>(packed.bits == 4 ? 0x88 : 0x80));
  packed.codes = {storage->codes, code_bytes};
  packed.scales = storage->scales;
  packed.zero_points = storage->zero_points;
  packed.memory = storage;
  return storage;
}

void pack_row(const PlainWeights& plain,
              const PackedWeights& packed,
              std::int64_t n,
              std::uint8_t* codes) {
  for (std::int64_t k = 0; k < plain.in; ++k) {
    const int code = plain.codes[static_cast<std::size_t>(n * plain.in + k)];
    const Place place = place_of(packed, n, k);
    // Exclusive or turns the zero code there into this one: adding 2^(bits-1) flips just the top
    // bit.
    const int mask = packed.bits == 4 ? 0x0f : 0xff;
    codes[place.byte] ^= static_cast<std::uint8_t>((code & mask) << place.shift);
  }
}

}  // namespace

PackedWeights pack_weights(const PlainWeights& plain) {
  check_sizes(plain);
  check_codes(plain.codes, plain.bits, "codes");
  check_codes(plain.zero_points, plain.bits, "zero points");
  PackedWeights packed;
  const std::shared_ptr<Storage> storage = allocate(plain, packed);
  const std::int64_t groups = packed.groups();
  for (std::int64_t n = 0; n < plain.out; ++n) {
    pack_row(plain, packed, n, storage->codes);
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::size_t from = static_cast<std::size_t>(n * groups + group);
      const std::size_t to = scale_index(n, group, groups);
      storage->scales[to] = plain.scales[from];
      if (!plain.zero_points.empty()) storage->zero_points[to] = plain.zero_points[from];
    }
  }
  return packed;
}

UnpackedWeights unpack_weights(const PackedWeights& weights) {
  const std::int64_t groups = weights.groups();
  UnpackedWeights plain;
  for (std::int64_t n = 0; n < weights.out; ++n) {
    for (std::int64_t k = 0; k < weights.in; ++k) {
      const Place place = place_of(weights, n, k);
      const int mask = weights.bits == 4 ? 0x0f : 0xff;
      const int stored = (weights.codes[place.byte] >> place.shift) & mask;
      plain.codes.push_back(static_cast<std::int8_t>(stored - (1 << (weights.bits - 1))));
    }
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::size_t index = scale_index(n, group, groups);
      plain.scales.push_back(weights.scales[index]);
      if (!weights.zero_points.empty()) plain.zero_points.push_back(weights.zero_points[index]);
    }
  }
  return plain;
}

}  // namespace qvlm::kernels
