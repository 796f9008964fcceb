#include "model/rope.h"

#include <numbers>

namespace qvlm {
namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
at::Tensor stretch_llama3(const at::Tensor& frequencies, const RopeConfig& config) {
  const double positions = static_cast<double>(config.original_max_positions);
  const at::Tensor wavelength = 2 * std::numbers::pi / frequencies;
  const at::Tensor smooth = (positions / wavelength - config.low_freq_factor) /
                            (config.high_freq_factor - config.low_freq_factor);
  const at::Tensor blended = (1 - smooth) * frequencies / config.factor + smooth * frequencies;
  const at::Tensor stretched = at::where(wavelength > positions / config.low_freq_factor,
                                         frequencies / config.factor, blended);
  return at::where(wavelength < positions / config.high_freq_factor, frequencies, stretched);
}

}  // namespace

Rope::Rope(const RopeConfig& config, std::int64_t head_dim) {
  const at::Tensor exponents =
      at::arange(0, head_dim, 2, at::kFloat) / static_cast<double>(head_dim);
  inverse_frequencies_ = 1.0 / at::pow(config.theta, exponents);
  if (config.type == RopeType::kLinear) inverse_frequencies_ = inverse_frequencies_ / config.factor;
  if (config.type == RopeType::kLlama3)
    inverse_frequencies_ = stretch_llama3(inverse_frequencies_, config);
}

RopeAngles Rope::angles(std::int64_t first, std::int64_t tokens) const {
  const at::Tensor positions = at::arange(first, first + tokens, at::kFloat);
  const at::Tensor half = at::outer(positions, inverse_frequencies_);
  const at::Tensor full = at::cat({half, half}, -1);
  return {full.cos(), full.sin()};
}

at::Tensor rotate(const at::Tensor& x, const RopeAngles& angles) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor turned = at::cat({-x.slice(-1, half), x.slice(-1, 0, half)}, -1);
  return x * angles.cos + turned * angles.sin;
}

}  // namespace qvlm
