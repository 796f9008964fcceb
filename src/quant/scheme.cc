#include "quant/scheme.h"

#include "base/error.h"

namespace qvlm {
namespace {

void check_common(const Scheme& scheme, std::string_view where) {
  require(scheme.bits >= 2 && scheme.bits <= 8, ErrorKind::kInvalidArgument, where,
          ": bits must be 2 to 8, got ", scheme.bits);
  require(scheme.clip_ratio > 0.0 && scheme.clip_ratio <= 1.0, ErrorKind::kInvalidArgument, where,
          ": clip_ratio must be above 0 and at most 1, got ", scheme.clip_ratio);
}

}  // namespace

void check_weight_scheme(const Scheme& scheme, std::string_view where) {
  check_common(scheme, where);
  require(scheme.granularity != Granularity::kToken, ErrorKind::kInvalidArgument, where,
          ": weights have no tokens; use granularity tensor, channel or group");
  require(!scheme.dynamic, ErrorKind::kInvalidArgument, where, ": weights cannot be dynamic");
  const int group = scheme.group_size;
  if (scheme.granularity == Granularity::kGroup) {
    require(group == 32 || group == 64 || group == 128, ErrorKind::kInvalidArgument, where,
            ": group_size must be 32, 64 or 128, got ", group);
  } else {
    require(group == 0, ErrorKind::kInvalidArgument, where,
            ": group_size goes with granularity group only");
  }
}

void check_activation_scheme(const Scheme& scheme, std::string_view where) {
  check_common(scheme, where);
  require(scheme.granularity == Granularity::kToken && scheme.dynamic, ErrorKind::kInvalidArgument,
          where, ": activations are quantized per token while running: use granularity token");
  require(scheme.symmetric, ErrorKind::kInvalidArgument, where, ": activations must be symmetric");
}

std::string describe(const LinearScheme& scheme) {
  std::string text = "w" + std::to_string(scheme.weight.bits);
  if (scheme.weight.granularity == Granularity::kGroup)
    text += " g" + std::to_string(scheme.weight.group_size);
  if (scheme.weight.granularity == Granularity::kTensor) text += " per-tensor";
  if (!scheme.weight.symmetric) text += " asym";
  if (scheme.activation) text += " a" + std::to_string(scheme.activation->bits);
  return text;
}

}  // namespace qvlm
