#include "model/linear_input.h"

#include <algorithm>

#include "base/parallel.h"

namespace qvlm {
namespace {

// Values per range when rows are converted by several threads: below this the start of a thread
// costs more than it saves.
constexpr std::int64_t kValueGrain = 1 << 16;

std::int64_t row_grain(std::int64_t in) {
  return std::max<std::int64_t>(1, kValueGrain / in);
}

}  // namespace

LinearInput::LinearInput(const at::Tensor& x) : values_(x.contiguous()) {}

const kernels::QuantizedRows& LinearInput::codes(const Scheme& activation,
                                                 std::int64_t group_size,
                                                 const kernels::Hadamard* hadamard) const {
  const bool same = scheme_ == activation && codes_.group_size == group_size;
  if (same && turned_by_ == hadamard) return codes_;
  const std::int64_t rows = values_.size(0), in = values_.size(1);
  codes_.resize(rows, in, group_size);
  kernels::ActivationCodes format{activation.bits, static_cast<float>(activation.clip_ratio)};
  format.transform = hadamard;
  const float* values = values_.const_data_ptr<float>();
  for_ranges(rows, row_grain(in), [&](std::int64_t begin, std::int64_t end) {
    kernels::quantize_rows(values, format, begin, end, codes_);
  });
  scheme_ = activation;
  turned_by_ = hadamard;
  return codes_;
}

const at::Tensor& LinearInput::rounded(const InputRounding& rounding) const {
  if (rounding_ != rounding) {
    rounded_ = (*rounding)(values_);
    rounding_ = rounding;
  }
  return rounded_;
}

const kernels::Bf16Rows& LinearInput::bf16(std::int64_t group_size,
                                           const kernels::Hadamard* hadamard) const {
  if (bf16_ && bf16_->group_size == group_size && bf16_turned_by_ == hadamard) return *bf16_;
  const std::int64_t rows = values_.size(0), in = values_.size(1);
  kernels::Bf16Rows& result = bf16_.emplace();
  result.resize(rows, in, group_size);
  const float* values = values_.const_data_ptr<float>();
  for_ranges(rows, row_grain(in), [&](std::int64_t begin, std::int64_t end) {
    kernels::round_rows(values, begin, end, result, hadamard);
  });
  bf16_turned_by_ = hadamard;
  return result;
}

}  // namespace qvlm
