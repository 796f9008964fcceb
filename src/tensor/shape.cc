#include "tensor/shape.h"

#include <algorithm>

#include "base/error.h"

namespace qvlm {
namespace {

std::string shape_text(c10::IntArrayRef sizes) {
  std::string text = "[";
  for (const std::int64_t size : sizes) {
    if (text.size() > 1) text += ", ";
    text += size == kAnySize ? "*" : std::to_string(size);
  }
  return text + "]";
}

}  // namespace

void require_shape(const at::Tensor& tensor,
                   std::string_view name,
                   std::initializer_list<std::int64_t> expected) {
  const c10::IntArrayRef got = tensor.sizes();
  const bool same = std::equal(
      got.begin(), got.end(), expected.begin(), expected.end(),
      [](std::int64_t size, std::int64_t want) { return want == kAnySize || size == want; });
  if (same) return;
  fail(ErrorKind::kInvalidArgument, name, ": expected shape ", shape_text(expected), ", got ",
       shape_text(got));
}

}  // namespace qvlm
