// The small matrices are those of Paley: the quadratic character of the numbers modulo a prime q,
// which is 1 for squares, -1 for others and 0 for 0, written as a matrix chi(column - row) with a
// border of ones, has orthogonal rows.
#include "kernels/hadamard.h"

#include <bit>
#include <cmath>
#include <stdexcept>

#include "kernels/scratch.h"

namespace qvlm::kernels {
namespace {

void check(bool condition, const char* text) {
  if (!condition) throw std::invalid_argument(text);
}

bool is_prime(std::int64_t number) {
  for (std::int64_t divisor = 2; divisor * divisor <= number; ++divisor) {
    if (number % divisor == 0) return false;
  }
  return number > 1;
}

bool has_first_paley(std::int64_t order) {
  return order % 4 == 0 && is_prime(order - 1);
}

bool has_second_paley(std::int64_t order) {
  return order % 8 == 4 && is_prime(order / 2 - 1);
}

// [q + 1, q + 1], with a diagonal of 0. Symmetric if q % 4 is 1, else skew.
std::vector<std::int8_t> bordered_character(std::int64_t q) {
  std::vector<std::int8_t> character(static_cast<std::size_t>(q), -1);
  for (std::int64_t root = 0; root < q; ++root) {
    character[static_cast<std::size_t>(root * root % q)] = root == 0 ? 0 : 1;
  }
  const std::int64_t size = q + 1;
  std::vector<std::int8_t> matrix;
  for (std::int64_t row = 0; row < size; ++row) {
    for (std::int64_t column = 0; column < size; ++column) {
      if (row == 0 || column == 0) {
        const bool negative = column == 0 && q % 4 == 3;
        matrix.push_back(static_cast<std::int8_t>(row == column ? 0 : (negative ? -1 : 1)));
      } else {
        matrix.push_back(character[static_cast<std::size_t>((column - row + q) % q)]);
      }
    }
  }
  return matrix;
}

std::vector<std::int8_t> first_paley(std::int64_t order) {
  std::vector<std::int8_t> matrix = bordered_character(order - 1);
  for (std::int64_t i = 0; i < order; ++i) {
    matrix[static_cast<std::size_t>(i * order + i)] = 1;
  }
  return matrix;
}

// Each entry becomes 2 by 2: 0 becomes (1 -1, -1 -1), and c becomes c (1 1, 1 -1).
std::vector<std::int8_t> second_paley(std::int64_t order) {
  const std::int64_t half = order / 2;
  const std::vector<std::int8_t> core = bordered_character(half - 1);
  std::vector<std::int8_t> matrix;
  for (std::int64_t row = 0; row < order; ++row) {
    for (std::int64_t column = 0; column < order; ++column) {
      const int entry = core[static_cast<std::size_t>(row / 2 * half + column / 2)];
      const int odds = static_cast<int>(row % 2 + column % 2);
      const int of_zero = odds == 0 ? 1 : -1, of_one = odds == 2 ? -1 : 1;
      matrix.push_back(static_cast<std::int8_t>(entry == 0 ? of_zero : entry * of_one));
    }
  }
  return matrix;
}

std::vector<std::uint16_t> terms_of(const std::vector<std::int8_t>& matrix, std::int64_t order) {
  std::vector<std::uint16_t> terms;
  for (std::int64_t column = 0; column < order; ++column) {
    for (std::int64_t row = 0; row + 4 <= order; row += 4) {
      std::int64_t signs = 0;
      for (std::int64_t i = 0; i < 4; ++i) {
        const bool negative = matrix[static_cast<std::size_t>((row + i) * order + column)] < 0;
        signs |= std::int64_t{negative} << i;
      }
      const std::int64_t entry = row / 4 * kSignChoices + signs;
      terms.push_back(static_cast<std::uint16_t>(entry * kSignedSumBytes / 8));
    }
  }
  return terms;
}

void check_transform(const Hadamard& transform, std::int64_t in) {
  const std::int64_t order = transform.order;
  check(transform.width >= 0 && order > 0 && order <= kMostOrder && transform.width % order == 0 &&
            (transform.width == 0 ||
             std::has_single_bit(static_cast<std::uint64_t>(transform.width / order))) &&
            (order == 1 || order % 4 == 0) &&
            transform.terms.size() == static_cast<std::size_t>(order * (order / 4)),
        "[transform] expected what make_hadamard() returns");
  check(transform.width == 0 || in % transform.width == 0,
        "[transform] expected rows that are a multiple of its width");
}

}  // namespace

Hadamard make_hadamard(std::int64_t in) {
  check(in > 0, "[make_hadamard] expected in > 0");
  Hadamard result;
  result.width = in & -in;  // the largest power of two that divides it
  result.matrix = {1};
  const std::int64_t order = 4 * (in / result.width);
  if (order == 4 || order > kMostOrder || result.width < 4) return result;
  if (!has_first_paley(order) && !has_second_paley(order)) return result;
  result.width = in;
  result.order = order;
  result.matrix = has_first_paley(order) ? first_paley(order) : second_paley(order);
  result.terms = terms_of(result.matrix, order);
  return result;
}

std::optional<TransformArguments> find_transform(const Hadamard* transform, std::int64_t in) {
  if (transform == nullptr) return std::nullopt;
  check_transform(*transform, in);
  if (transform->width <= 1) return std::nullopt;
  const std::int64_t row_bytes = row_stride(in) * std::int64_t{sizeof(float)};
  const std::int64_t entries = transform->order / 4 * kSignChoices;
  thread_local Scratch scratch;
  std::uint8_t* memory = scratch.get(row_bytes + entries * kSignedSumBytes);
  TransformArguments arguments;
  arguments.order = transform->order;
  arguments.run = transform->width / transform->order;
  arguments.terms = transform->terms.data();
  arguments.factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(transform->width)));
  arguments.result = reinterpret_cast<float*>(memory);
  arguments.table = reinterpret_cast<float*>(memory + row_bytes);
  return arguments;
}

}  // namespace qvlm::kernels
