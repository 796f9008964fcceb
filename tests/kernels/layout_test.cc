#include "kernels/layout.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "kernels/kernel_cases.h"

namespace qvlm::kernels {
namespace {

TEST(Layout, UnpackingGivesTheCodesBack) {
  std::mt19937 random(1);
  for (int bits = 2; bits <= 8; ++bits) {
    for (std::int64_t out : {1, 16, 63, 64, 65, 130}) {
      for (std::int64_t in : {1, 3, 4, 7, 8, 9, 33, 64, 100}) {
        for (std::int64_t group_size : {0, 8, 32, 128}) {
          const LinearCase linear = random_linear(out, in, {bits, group_size, in % 2 == 0}, random);
          const PackedWeights packed = linear.pack();
          EXPECT_EQ(packed.bits, bits <= 4 ? 4 : 8);
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(packed.codes.data()) % 64, 0u);
          const UnpackedWeights unpacked = unpack_weights(packed);
          ASSERT_EQ(unpacked.codes, linear.codes) << bits << " bits, " << out << " x " << in;
          ASSERT_EQ(unpacked.scales, linear.scales) << bits << " bits, " << out << " x " << in;
          ASSERT_EQ(unpacked.zero_points, linear.zero_points) << bits << " bits";
        }
      }
    }
  }
}

// The example and the table of docs/formats.md.
TEST(Layout, BytesAreWhereTheDocumentSays) {
  LinearCase plain{70, 20, {4, 0, true}, std::vector<std::int8_t>(70 * 20, 0), {}, {}};
  plain.scales.assign(70, 1.0f);
  plain.codes[1 * 20 + 5] = 7;     // panel 0, step 0, second quad: high nibble of byte 4 * 1 + 1
  plain.codes[66 * 20 + 10] = -8;  // panel 1, step 1, first quad: low nibble of byte 4 * 2 + 2
  const PackedWeights four = plain.pack();
  ASSERT_EQ(four.codes.size(), 2u * 3u * 256u);
  EXPECT_EQ(four.codes[5], 0xf8);
  EXPECT_EQ(four.codes[(3 + 1) * 256 + 10], 0x80);
  EXPECT_EQ(four.codes.back(), 0x88);
  plain.format.bits = 8;
  const PackedWeights eight = plain.pack();
  ASSERT_EQ(eight.codes.size(), 2u * 3u * 512u);
  EXPECT_EQ(eight.codes[256 + 5], 0x87);
  EXPECT_EQ(eight.codes[(3 + 1) * 512 + 10], 0x78);
  EXPECT_EQ(eight.codes.back(), 0x80);
}

TEST(Layout, RefusesWhatDoesNotFit) {
  const std::vector<std::int8_t> codes(32, 0), eights(32, 8), low(32, -5), zero_points(2, 8);
  const std::vector<float> scales(2, 1.0f);
  const auto expect_refused = [](const PlainWeights& plain) {
    EXPECT_THROW(pack_weights(plain), std::invalid_argument);
  };
  EXPECT_NO_THROW(pack_weights({2, 16, 8, 0, codes, scales, zero_points}));
  expect_refused({2, 15, 8, 0, codes, scales, {}});
  expect_refused({1, 32, 8, 0, codes, scales, {}});
  expect_refused({2, 16, 8, 8, codes, scales, {}});
  expect_refused({2, 16, 8, 20, codes, scales, {}});
  expect_refused({2, 16, 8, -8, codes, scales, {}});
  expect_refused({2, 16, 1, 0, codes, scales, {}});
  expect_refused({2, 16, 9, 0, codes, scales, {}});
  expect_refused({2, 0, 8, 0, {}, scales, {}});
  expect_refused({0, 16, 8, 0, {}, {}, {}});
  expect_refused({2, 16, 4, 0, eights, scales, {}});
  expect_refused({2, 16, 3, 0, low, scales, {}});
  expect_refused({2, 16, 4, 0, codes, scales, zero_points});
  expect_refused({2, 16, 8, 0, codes, scales, std::span(zero_points).first(1)});
}

TEST(Layout, RefusesGroupsWhoseSumsOverflow) {
  const std::vector<std::int8_t> codes(131072, 0), zero_point(1, 3);
  const std::vector<float> scales(2, 1.0f);
  const auto one = std::span(scales).first(1);
  EXPECT_THROW(pack_weights({1, 131072, 8, 0, codes, one, {}}), std::invalid_argument);
  EXPECT_THROW(pack_weights({1, 131072, 8, 0, codes, one, zero_point}), std::invalid_argument);
  EXPECT_NO_THROW(pack_weights({1, 131072, 4, 0, codes, one, zero_point}));
  EXPECT_NO_THROW(pack_weights({1, 131072, 8, 65536, codes, scales, {}}));
}

}  // namespace
}  // namespace qvlm::kernels
