#include "pipeline/source_check.h"

#include "base/error.h"
#include "io/quantization_config.h"
#include "tensor/file_tensor.h"

namespace qvlm {

void check_source(const Checkpoint& checkpoint, const std::vector<LinearShape>& linears) {
  const std::string where = checkpoint.folder().string();
  require(!QuantizationConfig::load(checkpoint), ErrorKind::kUnsupported, where,
          ": is quantized already; start from the float checkpoint");
  for (const LinearShape& linear : linears) {
    const TensorView view = checkpoint.get_tensor(linear.name + ".weight");
    require(view.shape == std::vector<std::int64_t>{linear.out, linear.in}, ErrorKind::kCorrupt,
            where, ": ", view.describe(), ": config.json asks for shape [", linear.out, ", ",
            linear.in, "]");
    require(at::isFloatingType(scalar_type(view.dtype)), ErrorKind::kCorrupt, where, ": ",
            view.describe(), ": expected floating point");
  }
}

}  // namespace qvlm
