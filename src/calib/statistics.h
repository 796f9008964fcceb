// Statistics of the inputs of a linear: what range choices, reports and later smoothing or GPTQ
// start from. They are sums and extremes, so parts of a calibration set can be collected apart and
// merged. They keep no values: what needs the activations themselves is calib/entropy.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "tensor/tensor.h"

namespace qvlm {

class InputStatistics {
 public:
  // Adds activations [tokens, in]; `in` is that of the first call. Does not depend on the number of
  // threads. Throws kInvalidArgument for another width, kCorrupt for values that are not finite;
  // nothing is added then.
  void add(const at::Tensor& activations);
  // Adds what another object has seen. Throws kInvalidArgument for another width.
  void merge(const InputStatistics& other);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t channels() const;                    // 0 before the first values
  const at::Tensor& low() const { return low_; }    // [in] float32; undefined before
  const at::Tensor& high() const { return high_; }  // [in]
  at::Tensor second_moment() const;                 // [in] float64, mean of the squares

  // The smallest magnitude that at least this share, in (0, 1], of all values stay within, read
  // from the histogram: at most 1/32 above the exact one, never below it, never above the largest
  // magnitude seen. The histogram resolves 2^-30 to 2^18: what is smaller counts as 2^-30, what is
  // larger as the largest. Throws kInvalidArgument where nothing was added.
  double magnitude_quantile(double share) const;
  // The magnitude T that minimizes sum |x - round(x)|^p over the histogram, both signs alike, for a
  // symmetric grid of `bits` (2..8) over [-T, T]; the start range of a search (p = 0.5 in Q-VLM's
  // code). T is the largest magnitude seen or an edge of the histogram between that and 1/8 of it;
  // 0 where only zeros were seen. Throws kInvalidArgument where nothing was added.
  double lp_range(int bits, double p) const;

  // One safetensors file for many linears, by name. Throws kIo; kNotFound, kCorrupt naming file and
  // tensor; kInvalidArgument for statistics of nothing.
  static void save(const std::filesystem::path& file,
                   const std::map<std::string, InputStatistics>& all);
  static std::map<std::string, InputStatistics> load(const std::filesystem::path& file);

 private:
  static InputStatistics of_block(const at::Tensor& values);  // float32 [tokens, in], one or more

  std::int64_t tokens_ = 0;
  // Replaced, never written to: copies of the object share them.
  at::Tensor low_, high_;  // [in]
  at::Tensor squares_;     // [in] float64, sums
  at::Tensor histogram_;   // [bins] int64: magnitudes, 32 bins an octave
};

}  // namespace qvlm
