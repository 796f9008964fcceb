#include "io/packed_words.h"

#include "base/error.h"

namespace qvlm {
namespace {

constexpr int kWordBits = 32;

void check(std::size_t got, std::int64_t rows, std::int64_t columns, int bits) {
  require(bits >= 2 && bits <= 8, ErrorKind::kInternal, "packed words: ", bits, " bits");
  require(rows >= 0 && columns >= 0 && got == static_cast<std::size_t>(rows * columns),
          ErrorKind::kInternal, "packed words: ", got, " values for ", rows, " x ", columns);
}

template <typename T>
std::vector<T> transpose(std::span<const T> values, std::int64_t rows, std::int64_t columns) {
  std::vector<T> result(values.size());
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      result[static_cast<std::size_t>(column * rows + row)] =
          values[static_cast<std::size_t>(row * columns + column)];
    }
  }
  return result;
}

}  // namespace

std::int64_t packed_word_count(std::int64_t count, int bits) {
  return (count * bits + kWordBits - 1) / kWordBits;
}

std::vector<std::int32_t> pack_rows(std::span<const std::int8_t> codes,
                                    std::int64_t rows,
                                    std::int64_t columns,
                                    int bits) {
  check(codes.size(), rows, columns, bits);
  const std::int64_t words = packed_word_count(columns, bits);
  const int offset = 1 << (bits - 1);
  std::vector<std::int32_t> packed;
  packed.reserve(static_cast<std::size_t>(rows * words));
  for (std::int64_t row = 0; row < rows; ++row) {
    std::uint64_t pending = 0;
    int pending_bits = 0;
    for (const std::int8_t code : codes.subspan(static_cast<std::size_t>(row * columns),
                                                static_cast<std::size_t>(columns))) {
      pending |= static_cast<std::uint64_t>(code + offset) << pending_bits;
      pending_bits += bits;
      if (pending_bits < kWordBits) continue;
      packed.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(pending)));
      pending >>= kWordBits;
      pending_bits -= kWordBits;
    }
    if (pending_bits > 0)
      packed.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(pending)));
  }
  return packed;
}

std::vector<std::int8_t> unpack_rows(std::span<const std::int32_t> words,
                                     std::int64_t rows,
                                     std::int64_t columns,
                                     int bits) {
  const std::int64_t row_words = packed_word_count(columns, bits);
  check(words.size(), rows, row_words, bits);
  const int offset = 1 << (bits - 1);
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  std::vector<std::int8_t> codes;
  codes.reserve(static_cast<std::size_t>(rows * columns));
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int32_t* next = words.data() + row * row_words;
    std::uint64_t pending = 0;
    int pending_bits = 0;
    for (std::int64_t column = 0; column < columns; ++column) {
      if (pending_bits < bits) {
        pending |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(*next++)) << pending_bits;
        pending_bits += kWordBits;
      }
      codes.push_back(static_cast<std::int8_t>(static_cast<int>(pending & mask) - offset));
      pending >>= bits;
      pending_bits -= bits;
    }
  }
  return codes;
}

std::vector<std::int32_t> pack_columns(std::span<const std::int8_t> codes,
                                       std::int64_t rows,
                                       std::int64_t columns,
                                       int bits) {
  check(codes.size(), rows, columns, bits);
  const std::vector<std::int32_t> words =
      pack_rows(transpose(codes, rows, columns), columns, rows, bits);
  return transpose(std::span(words), columns, packed_word_count(rows, bits));
}

std::vector<std::int8_t> unpack_columns(std::span<const std::int32_t> words,
                                        std::int64_t rows,
                                        std::int64_t columns,
                                        int bits) {
  const std::int64_t word_rows = packed_word_count(rows, bits);
  check(words.size(), word_rows, columns, bits);
  const std::vector<std::int8_t> codes =
      unpack_rows(transpose(words, word_rows, columns), columns, rows, bits);
  return transpose(std::span(codes), columns, rows);
}

}  // namespace qvlm
