// One seeded generator with results that do not depend on the standard library (whose distributions
// may differ between implementations). Used for sampling, never for security.
#pragma once

#include <cstdint>

namespace qvlm {

// SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state, every seed is good.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  double uniform();                          // in [0, 1)
  std::uint64_t below(std::uint64_t limit);  // in [0, limit), unbiased; limit > 0

 private:
  std::uint64_t state_;
};

}  // namespace qvlm
