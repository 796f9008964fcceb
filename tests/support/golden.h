// Golden tensors computed by transformers (tests/data/README.md), and the tolerance they are
// compared with.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "tensor/file_tensor.h"
#include "tensor/tensor.h"

namespace qvlm {

// Largest |got - want| divided by the range of `want`. Parity means at most 1e-4 of the range:
// float32 sums in another order differ by about 1e-6 of it (each golden.json states its own noise),
// a wrong formula by far more.
inline double relative_difference(const at::Tensor& got, const at::Tensor& want) {
  if (got.sizes() != want.sizes()) return 1e9;
  const double range = (want.max() - want.min()).item<double>();
  return (got - want).abs().max().item<double>() / range;
}
inline constexpr double kParity = 1e-4;

// Expects parity and records the difference for scripts/parity_table.py.
inline void expect_parity(const std::string& stage, const at::Tensor& got, const at::Tensor& want) {
  const double difference = relative_difference(got, want);
  EXPECT_LE(difference, kParity) << stage;
  testing::Test::RecordProperty(stage, std::to_string(difference * 1e6));
}

class Golden {
 public:
  explicit Golden(const std::filesystem::path& file) : file_(file) {}
  at::Tensor get(const std::string& name) const { return wrap(file_.tensors().at(name)); }
  std::vector<std::int32_t> ids(const std::string& name) const {
    const at::Tensor values = get(name).to(at::kInt).contiguous();
    return {values.const_data_ptr<std::int32_t>(),
            values.const_data_ptr<std::int32_t>() + values.numel()};
  }

 private:
  SafetensorsFile file_;
};

}  // namespace qvlm
