#include "base/random.h"

namespace qvlm {

std::uint64_t Random::next() {
  state_ += 0x9e3779b97f4a7c15u;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

std::uint64_t Random::below(std::uint64_t limit) {
  const std::uint64_t reject = (0 - limit) % limit;  // 2^64 mod limit values would be favoured
  std::uint64_t value = next();
  while (value < reject)
    value = next();
  return value % limit;
}

}  // namespace qvlm
