// The border between the library and its callers: what LibTorch and the allocator throw leaves the
// public functions as an Error. Everything else, a callback's exceptions too, passes.
#pragma once

#include <new>

#include "base/error.h"
#include "tensor/tensor.h"

namespace qvlm {

// Throws the Error that stands for LibTorch's: kResource where memory could not be had, else
// kInternal.
[[noreturn]] void fail_for(const c10::Error& error);

// What fn returns.
template <typename Fn>
decltype(auto) with_own_errors(Fn&& fn) {
  try {
    return fn();
  } catch (const c10::Error& error) {
    fail_for(error);
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::kResource, "out of memory");
  }
}

}  // namespace qvlm
