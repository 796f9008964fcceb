#include "model/synthetic_weights.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "io/scheme.h"

namespace qvlm {
namespace {

// A prime, so that rows of usual lengths begin at different places of what is repeated.
constexpr std::size_t kPeriod = 65'521;

// Values of variance 1 / in keep the size of what a linear of `in` inputs multiplies.
double bound_for(std::int64_t in) {
  return std::sqrt(3.0 / static_cast<double>(in));
}

template <typename T>
std::vector<T> repeat(const std::vector<T>& period, std::size_t count) {
  std::vector<T> values;
  values.reserve(count);
  while (values.size() < count) {
    const std::size_t part = std::min(period.size(), count - values.size());
    values.insert(values.end(), period.begin(), period.begin() + static_cast<std::ptrdiff_t>(part));
  }
  return values;
}

}  // namespace

SyntheticWeights::SyntheticWeights(std::map<std::string, LinearScheme> schemes, std::uint64_t seed)
    : schemes_(std::move(schemes)), values_(kPeriod), bytes_(kPeriod) {
  Random random(seed);
  for (float& value : values_)
    value = static_cast<float>(2.0 * random.uniform() - 1.0);
  for (std::int8_t& byte : bytes_)
    byte = static_cast<std::int8_t>(static_cast<int>(random.below(256)) - 128);
}

at::Tensor SyntheticWeights::load(const std::string& name, c10::IntArrayRef shape) const {
  constexpr at::ScalarType type = at::kBFloat16;
  if (shape.size() == 1) {  // a norm's weight is 1, a bias 0
    return at::full(shape, name.ends_with(".bias") ? 0.0 : 1.0, at::kFloat);
  }
  const bool embedding = name.ends_with("embed_tokens.weight");
  const double bound = embedding ? 1.0 : bound_for(shape.back());
  const at::Tensor period = at::tensor(values_, at::kFloat).mul_(bound).to(type);
  at::Tensor tensor = at::empty(shape, type);
  at::Tensor flat = tensor.flatten();
  const std::int64_t length = period.size(0), whole = flat.size(0) / length;
  flat.narrow(0, 0, whole * length).view({whole, length}).copy_(period.expand({whole, length}));
  const std::int64_t rest = flat.size(0) - whole * length;
  flat.narrow(0, whole * length, rest).copy_(period.narrow(0, 0, rest));
  return tensor;
}

std::optional<LinearScheme> SyntheticWeights::find_scheme(const std::string& linear) const {
  const auto found = schemes_.find(linear);
  return found == schemes_.end() ? std::nullopt : std::optional(found->second);
}

QuantizedWeight SyntheticWeights::load_codes(const std::string& linear,
                                             std::int64_t out,
                                             std::int64_t in) const {
  QuantizedWeight weight;
  weight.scheme = schemes_.at(linear).weight;
  weight.out = out;
  weight.in = in;
  weight.groups = group_count(weight.scheme, in);
  const int shift = 8 - weight.scheme.bits;
  std::vector<std::int8_t> codes = bytes_;
  for (std::int8_t& code : codes)
    code = static_cast<std::int8_t>(code >> shift);
  weight.codes = repeat(codes, static_cast<std::size_t>(out * in));
  const auto largest = static_cast<double>(highest_code(weight.scheme) + 1);
  std::vector<float> scales = values_;
  for (float& scale : scales)
    scale = static_cast<float>(bound_for(in) / largest * (1.0 + 0.25 * scale));
  const auto grid = static_cast<std::size_t>(out * weight.groups);
  weight.scales = repeat(scales, grid);
  if (!weight.scheme.symmetric) weight.zero_points = repeat(codes, grid);
  return weight;
}

}  // namespace qvlm
