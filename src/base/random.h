// One seeded generator with results that do not depend on the standard library (whose distributions
// may differ between implementations). Used for sampling, never for security.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace qvlm {

// SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state, every seed is good.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  double uniform();                          // in [0, 1)
  std::uint64_t below(std::uint64_t limit);  // in [0, limit), unbiased; limit > 0
  double normal();                           // mean 0, variance 1 (Box-Muller)

  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i)
      std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::uint64_t state_;
};

}  // namespace qvlm
