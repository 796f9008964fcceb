// The border between the library and its callers: LibTorch is ready for what a public function
// computes, and what LibTorch and the allocator throw leaves it as an Error. Everything else, a
// callback's exceptions too, passes.
#pragma once

#include <new>

#include "base/error.h"
#include "tensor/tensor.h"

namespace qvlm {

// Sets LibTorch up for the calling thread. Cheap after the first call.
void start_libtorch();

// Throws the Error that stands for LibTorch's: kResource where memory could not be had, else
// kInternal.
[[noreturn]] void fail_for(const c10::Error& error);

// What fn, the body of a public function, returns.
template <typename Fn>
decltype(auto) public_call(Fn&& fn) {
  try {
    start_libtorch();
    return fn();
  } catch (const c10::Error& error) {
    fail_for(error);
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::kResource, "out of memory");
  }
}

}  // namespace qvlm
