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
          const PlainWeights plain = random_weights(out, in, bits, group_size, random);
          const PackedWeights packed = plain.pack();
          EXPECT_EQ(packed.bits, bits <= 4 ? 4 : 8);
          const UnpackedWeights unpacked = unpack_weights(packed);
          ASSERT_EQ(unpacked.codes, plain.codes) << bits << " bits, " << out << " x " << in;
          ASSERT_EQ(unpacked.scales, plain.scales) << bits << " bits, " << out << " x " << in;
        }
      }
    }
  }
}

// The example and the table of docs/formats.md.
TEST(Layout, BytesAreWhereTheDocumentSays) {
  PlainWeights plain{70, 20, 4, 0, std::vector<std::int8_t>(70 * 20, 0), {}};
  plain.scales.assign(70, 1.0f);
  plain.codes[1 * 20 + 5] = 7;     // panel 0, step 0, second quad: high nibble of byte 4 * 1 + 1
  plain.codes[66 * 20 + 10] = -8;  // panel 1, step 1, first quad: low nibble of byte 4 * 2 + 2
  const PackedWeights four = plain.pack();
  ASSERT_EQ(four.codes.size(), 2u * 3u * 256u);
  EXPECT_EQ(four.codes[5], 0xf8);
  EXPECT_EQ(four.codes[(3 + 1) * 256 + 10], 0x80);
  EXPECT_EQ(four.codes.back(), 0x88);
  plain.bits = 8;
  const PackedWeights eight = plain.pack();
  ASSERT_EQ(eight.codes.size(), 2u * 3u * 512u);
  EXPECT_EQ(eight.codes[256 + 5], 0x87);
  EXPECT_EQ(eight.codes[(3 + 1) * 512 + 10], 0x78);
  EXPECT_EQ(eight.codes.back(), 0x80);
}

TEST(Layout, RefusesWhatDoesNotFit) {
  const std::vector<std::int8_t> codes(32, 0);
  const std::vector<float> scales(2, 1.0f);
  EXPECT_NO_THROW(pack_weights(codes, scales, 2, 16, 8, 0));
  EXPECT_THROW(pack_weights(codes, scales, 2, 15, 8, 0), std::invalid_argument);
  EXPECT_THROW(pack_weights(codes, scales, 1, 32, 8, 0), std::invalid_argument);
  EXPECT_THROW(pack_weights(codes, scales, 2, 16, 8, 8), std::invalid_argument);
  EXPECT_THROW(pack_weights(codes, scales, 2, 16, 8, 20), std::invalid_argument);
  EXPECT_THROW(pack_weights(codes, scales, 2, 16, 8, -8), std::invalid_argument);
  EXPECT_THROW(pack_weights(codes, scales, 2, 16, 1, 0), std::invalid_argument);
  EXPECT_THROW(pack_weights(codes, scales, 2, 16, 9, 0), std::invalid_argument);
  EXPECT_THROW(pack_weights({}, scales, 2, 0, 8, 0), std::invalid_argument);
  EXPECT_THROW(pack_weights({}, {}, 0, 16, 8, 0), std::invalid_argument);
  EXPECT_THROW(pack_weights(std::vector<std::int8_t>(32, 8), scales, 2, 16, 4, 0),
               std::invalid_argument);
  EXPECT_THROW(pack_weights(std::vector<std::int8_t>(32, -5), scales, 2, 16, 3, 0),
               std::invalid_argument);
}

TEST(Layout, RefusesGroupsWhoseSumsOverflow) {
  const std::vector<std::int8_t> codes(131072, 0);
  const std::vector<float> scale(1, 1.0f);
  EXPECT_THROW(pack_weights(codes, scale, 1, 131072, 8, 0), std::invalid_argument);
  EXPECT_NO_THROW(pack_weights(codes, scale, 1, 131072, 4, 0));
  EXPECT_NO_THROW(pack_weights(codes, std::vector<float>(2, 1.0f), 1, 131072, 8, 65536));
}

}  // namespace
}  // namespace qvlm::kernels
