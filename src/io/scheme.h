// What schemes (include/qvlm/scheme.h) may say, and their names. Recipes, files and the quantizer
// all ask here; schemes as JSON are io/scheme_json.h.
#pragma once

#include <qvlm/scheme.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace qvlm {

// Lowest and highest code: [-2^(bits-1), 2^(bits-1) - 1].
constexpr std::int64_t lowest_code(const Scheme& scheme) {
  return -(std::int64_t{1} << (scheme.bits - 1));
}
constexpr std::int64_t highest_code(const Scheme& scheme) {
  return (std::int64_t{1} << (scheme.bits - 1)) - 1;
}

// Whether inputs are quantized on scales that the checkpoint stores, not on each token's own.
inline bool has_static_input(const LinearScheme& scheme) {
  return scheme.activation && !scheme.activation->dynamic;
}

// "group" and so on.
std::string_view granularity_name(Granularity granularity);
std::optional<Granularity> find_granularity(std::string_view name);
inline constexpr std::string_view kGranularityNames = "tensor, channel, group, token";

// Throws `kind`, prefixed with `where`, for a scheme that qvlm does not compute.
void check_weight_scheme(const Scheme& scheme,
                         std::string_view where,
                         ErrorKind kind = ErrorKind::kInvalidArgument);
void check_activation_scheme(const Scheme& scheme,
                             std::string_view where,
                             ErrorKind kind = ErrorKind::kInvalidArgument);

// "w4 g128", "w4 g128 a8", "w8 asym a8"; "float" is what callers print for no scheme.
std::string describe(const LinearScheme& scheme);

}  // namespace qvlm
