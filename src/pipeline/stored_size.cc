#include "pipeline/stored_size.h"

#include "io/quantized_checkpoint.h"

namespace qvlm {

std::int64_t stored_bytes(const Checkpoint& source,
                          const LinearShape& linear,
                          const LinearScheme& scheme) {
  const DType dtype = source.get_tensor(linear.name + ".weight").dtype;
  const std::string module = source.names().module_to_file(linear.name);
  std::int64_t bytes = 0;
  for (const TensorInfo& tensor :
       describe_stored(module, scheme, linear.out, linear.in, dtype).tensors) {
    bytes += TensorView{"", tensor.dtype, tensor.shape, {}}.elements() *
             static_cast<std::int64_t>(dtype_size(tensor.dtype));
  }
  return bytes;
}

std::int64_t tensor_bytes(const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const TensorView& tensor : checkpoint.tensors())
    bytes += static_cast<std::int64_t>(tensor.bytes.size());
  return bytes;
}

}  // namespace qvlm
