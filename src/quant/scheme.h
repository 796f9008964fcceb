// What schemes (include/qvlm/scheme.h) may say, and their short names.
#pragma once

#include <qvlm/scheme.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace qvlm {

// Lowest and highest code: [-2^(bits-1), 2^(bits-1) - 1].
constexpr std::int64_t lowest_code(const Scheme& scheme) {
  return -(std::int64_t{1} << (scheme.bits - 1));
}
constexpr std::int64_t highest_code(const Scheme& scheme) {
  return (std::int64_t{1} << (scheme.bits - 1)) - 1;
}

// Throws kInvalidArgument, prefixed with `where`, for a scheme that cannot exist.
void check_weight_scheme(const Scheme& scheme, std::string_view where);
void check_activation_scheme(const Scheme& scheme, std::string_view where);

// "w4 g128", "w4 g128 a8", "w8 asym a8"; "float" is what callers print for no scheme.
std::string describe(const LinearScheme& scheme);

}  // namespace qvlm
