#include "io/scheme.h"

#include <array>
#include <utility>

namespace qvlm {
namespace {

constexpr std::array kGranularities = {
    std::pair{std::string_view("tensor"), Granularity::kTensor},
    std::pair{std::string_view("channel"), Granularity::kChannel},
    std::pair{std::string_view("group"), Granularity::kGroup},
    std::pair{std::string_view("token"), Granularity::kToken},
};

void check_common(const Scheme& scheme, std::string_view where, ErrorKind kind) {
  require(scheme.bits >= 2 && scheme.bits <= 8, kind, where, ": bits must be 2 to 8, got ",
          scheme.bits);
  require(scheme.clip_ratio > 0.0 && scheme.clip_ratio <= 1.0, kind, where,
          ": clip_ratio must be above 0 and at most 1, got ", scheme.clip_ratio);
  const int group = scheme.group_size;
  if (scheme.granularity == Granularity::kGroup) {
    require(group == 32 || group == 64 || group == 128, kind, where,
            ": group_size must be 32, 64 or 128, got ", group);
  } else {
    require(group == 0, kind, where, ": group_size goes with granularity group only");
  }
}

}  // namespace

std::string_view granularity_name(Granularity granularity) {
  for (const auto& [name, value] : kGranularities) {
    if (value == granularity) return name;
  }
  fail(ErrorKind::kInternal, "unknown Granularity value");
}

std::optional<Granularity> find_granularity(std::string_view name) {
  for (const auto& [known, value] : kGranularities) {
    if (known == name) return value;
  }
  return std::nullopt;
}

void check_weight_scheme(const Scheme& scheme, std::string_view where, ErrorKind kind) {
  check_common(scheme, where, kind);
  require(scheme.granularity != Granularity::kToken, kind, where,
          ": weights have no tokens; use granularity tensor, channel or group");
  require(!scheme.dynamic, kind, where, ": weights cannot be dynamic");
}

void check_activation_scheme(const Scheme& scheme, std::string_view where, ErrorKind kind) {
  check_common(scheme, where, kind);
  const bool stored =
      scheme.granularity == Granularity::kTensor || scheme.granularity == Granularity::kChannel;
  require(scheme.dynamic ? scheme.granularity == Granularity::kToken : stored, kind, where,
          ": activations are quantized per token while running (dynamic), or on stored scales of "
          "granularity tensor or channel");
  require(scheme.symmetric, kind, where, ": activations must be symmetric");
}

std::string describe(const LinearScheme& scheme) {
  std::string text = "w" + std::to_string(scheme.weight.bits);
  if (scheme.weight.granularity == Granularity::kGroup)
    text += " g" + std::to_string(scheme.weight.group_size);
  if (scheme.weight.granularity == Granularity::kTensor) text += " per-tensor";
  if (!scheme.weight.symmetric) text += " asym";
  if (scheme.activation) text += " a" + std::to_string(scheme.activation->bits);
  if (has_static_input(scheme))
    text += " static per " + std::string(granularity_name(scheme.activation->granularity));
  if (scheme.hadamard_input) text += " hadamard";
  return text;
}

}  // namespace qvlm
