#include "kernels/rows.h"

namespace qvlm::kernels {
namespace {

void quantize_row(const RowArguments& row,
                  const CodeRange& range,
                  std::int8_t* codes,
                  float* scale,
                  std::int32_t* sums) {
  quantize_one(row, range, codes, scale, sums);
}

void round_row(const RowArguments& row, std::uint16_t* values, float* sums) {
  round_one(row, values, sums);
}

void transform_row(const RowArguments& row) {
  transform_one(row);
}

}  // namespace

const RowKernels kScalarRows = {quantize_row, round_row, transform_row};

}  // namespace qvlm::kernels
