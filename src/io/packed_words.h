// Integer codes packed into the 32-bit words of compressed-tensors files: code q of `bits` bits is
// stored as q + 2^(bits-1), the first one in the lowest bits, each row padded to whole words. The
// layouts that kernels want are kernels/layout.h, never this file.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qvlm {

// Words that a row of `count` codes takes.
std::int64_t packed_word_count(std::int64_t count, int bits);

// codes: [rows, columns] in [-2^(bits-1), 2^(bits-1) - 1]; gives [rows, words of a row].
//   bits: 2..8. Codes of 3, 5, 6 and 7 bits cross word borders, which older readers do not
//   understand.
std::vector<std::int32_t> pack_rows(std::span<const std::int8_t> codes,
                                    std::int64_t rows,
                                    std::int64_t columns,
                                    int bits);
// The inverse; words: [rows, words of a row].
std::vector<std::int8_t> unpack_rows(std::span<const std::int32_t> words,
                                     std::int64_t rows,
                                     std::int64_t columns,
                                     int bits);

// The same along the first dimension, as zero points are stored: [rows, columns] <-> [words of a
// column, columns].
std::vector<std::int32_t> pack_columns(std::span<const std::int8_t> codes,
                                       std::int64_t rows,
                                       std::int64_t columns,
                                       int bits);
std::vector<std::int8_t> unpack_columns(std::span<const std::int32_t> words,
                                        std::int64_t rows,
                                        std::int64_t columns,
                                        int bits);

}  // namespace qvlm
