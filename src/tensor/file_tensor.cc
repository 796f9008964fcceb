#include "tensor/file_tensor.h"

#include <array>
#include <utility>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 10> kTypes = {{
    {DType::kBool, at::kBool},
    {DType::kU8, at::kByte},
    {DType::kI8, at::kChar},
    {DType::kI16, at::kShort},
    {DType::kI32, at::kInt},
    {DType::kI64, at::kLong},
    {DType::kF16, at::kHalf},
    {DType::kBF16, at::kBFloat16},
    {DType::kF32, at::kFloat},
    {DType::kF64, at::kDouble},
}};

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  for (const auto& [file, type] : kTypes) {
    if (file == dtype) return type;
  }
  fail(ErrorKind::kInternal, "dtype ", dtype_name(dtype), " has no LibTorch type");
}

DType dtype_of(const at::Tensor& tensor) {
  for (const auto& [file, type] : kTypes) {
    if (type == tensor.scalar_type()) return file;
  }
  fail(ErrorKind::kInternal, "a tensor of type ", tensor.toString(),
       " cannot be written to a file");
}

at::Tensor wrap(const TensorView& view) {
  // LibTorch has no read-only tensors; nobody writes to what wrap() returns.
  void* data = const_cast<std::byte*>(view.bytes.data());
  return at::from_blob(data, view.shape, at::TensorOptions().dtype(scalar_type(view.dtype)));
}

at::Tensor to_float32(const TensorView& view) {
  const at::ScalarType type = scalar_type(view.dtype);
  require(at::isFloatingType(type), ErrorKind::kCorrupt, view.describe(),
          ": expected floating point");
  return wrap(view).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  require(tensor.is_contiguous(), ErrorKind::kInternal, "bytes_of: the tensor is not contiguous");
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

}  // namespace qvlm
