#include "io/packed_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "io/scale_values.h"
#include "io/sha256.h"

namespace qvlm {
namespace {

using ::testing::ElementsAre;

std::vector<std::int8_t> random_codes(std::int64_t count, int bits, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int8_t> codes;
  for (std::int64_t i = 0; i < count; ++i) {
    codes.push_back(
        static_cast<std::int8_t>(static_cast<int>(random.below(1u << bits)) - (1 << (bits - 1))));
  }
  return codes;
}

// The stored value of element i by the format's definition: bits [i * bits, (i + 1) * bits) of the
// row.
int element_of(std::span<const std::int32_t> row, std::int64_t i, int bits) {
  int value = 0;
  for (int bit = 0; bit < bits; ++bit) {
    const std::int64_t position = i * bits + bit;
    const auto word = static_cast<std::uint32_t>(row[static_cast<std::size_t>(position / 32)]);
    value |= static_cast<int>((word >> (position % 32)) & 1) << bit;
  }
  return value - (1 << (bits - 1));
}

TEST(PackedWords, MatchesThePublishedVector) {
  const std::vector<std::int8_t> codes = {-8, -7, -6, -5, -4, -3, -2, -1};
  EXPECT_THAT(pack_rows(codes, 1, 8, 4), ElementsAre(0x76543210));
  EXPECT_THAT(pack_rows(std::vector<std::int8_t>{-128, 127, 0, 1, -1}, 1, 5, 8),
              ElementsAre(static_cast<std::int32_t>(0x8180ff00), 0x7f));
}

TEST(PackedWords, RoundTripsEveryWidthAndOddSizes) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const std::int64_t columns : {1, 7, 8, 9, 31, 32, 33, 65}) {
      const std::int64_t rows = 3;
      const std::vector<std::int8_t> codes =
          random_codes(rows * columns, bits, static_cast<std::uint64_t>(columns));
      const std::vector<std::int32_t> words = pack_rows(codes, rows, columns, bits);
      const std::int64_t row_words = packed_word_count(columns, bits);
      ASSERT_EQ(words.size(), static_cast<std::size_t>(rows * row_words));
      EXPECT_EQ(unpack_rows(words, rows, columns, bits), codes);
      const std::span<const std::int32_t> last =
          std::span(words).last(static_cast<std::size_t>(row_words));
      for (std::int64_t i = 0; i < columns; ++i) {
        EXPECT_EQ(element_of(last, i, bits), codes[static_cast<std::size_t>(2 * columns + i)]);
      }
      const std::vector<std::int32_t> down = pack_columns(codes, rows, columns, bits);
      ASSERT_EQ(down.size(), static_cast<std::size_t>(packed_word_count(rows, bits) * columns));
      EXPECT_EQ(unpack_columns(down, rows, columns, bits), codes);
    }
  }
}

TEST(PackedWords, ZeroPointsGoDownTheColumns) {
  // Rows 0, 1, 2 of one column: 4-bit fields from the lowest on.
  EXPECT_THAT(pack_columns(std::vector<std::int8_t>{-8, -7, -6}, 3, 1, 4), ElementsAre(0x210));
}

TEST(ScaleValues, EveryHalfAndBrainNumberComesBack) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const TensorView view{"s", dtype, {1}, std::as_bytes(std::span(&half, 1))};
      const std::vector<float> value = decode_scales(view);
      if (!(std::abs(value[0]) < INFINITY)) continue;
      const std::vector<std::byte> bytes = encode_scales(value, dtype);
      EXPECT_TRUE(std::ranges::equal(bytes, view.bytes)) << value[0];
    }
  }
}

TEST(ScaleValues, RefusesAValueThatWouldChange) {
  const std::vector<float> third = {1.0f / 3.0f};
  EXPECT_THROW(encode_scales(third, DType::kBF16), Error);
  EXPECT_THROW(encode_scales(third, DType::kF16), Error);
  EXPECT_THROW(encode_scales(std::vector<float>{65536.0f}, DType::kF16), Error);
  EXPECT_EQ(encode_scales(third, DType::kF32).size(), 4u);
}

TEST(Sha256, MatchesThePublishedVectors) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace qvlm
