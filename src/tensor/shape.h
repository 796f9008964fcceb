// Shape checks that say what was expected. Every tensor function that others call begins with one.
#pragma once

#include <initializer_list>
#include <string_view>

#include "tensor/tensor.h"

namespace qvlm {

inline constexpr std::int64_t kAnySize = -1;

// Throws kInvalidArgument "<name>: expected shape [4, *], got [3, 7]" unless every size agrees;
// kAnySize fits all.
void require_shape(const at::Tensor& tensor,
                   std::string_view name,
                   std::initializer_list<std::int64_t> expected);

}  // namespace qvlm
