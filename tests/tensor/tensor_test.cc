#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <functional>
#include <new>
#include <stdexcept>
#include <thread>

#include "base/parallel.h"
#include "tensor/file_tensor.h"
#include "tensor/public_call.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

TEST(ShapeTest, SaysWhatWasExpected) {
  require_shape(at::zeros({3, 7}), "x", {3, kAnySize});
  try {
    require_shape(at::zeros({3, 7}), "x", {4, kAnySize});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "x: expected shape [4, *], got [3, 7]");
  }
  EXPECT_THROW(require_shape(at::zeros({3}), "x", {3, 1}), Error);
}

ErrorKind kind_of(const std::function<void()>& call) {
  try {
    public_call(call);
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::kInternal;
}

TEST(PublicCallTest, LibTorchsErrorsBecomeOurs) {
#ifndef __SANITIZE_ADDRESS__  // whose allocator ends the program instead
  EXPECT_EQ(kind_of([] { at::empty({std::int64_t{1} << 46}); }), ErrorKind::kResource);
#endif
  EXPECT_EQ(kind_of([] { throw std::bad_alloc(); }), ErrorKind::kResource);
  EXPECT_EQ(kind_of([] { at::zeros({2, 3}).matmul(at::zeros({2, 3})); }), ErrorKind::kInternal);
  EXPECT_EQ(kind_of([] { throw Error(ErrorKind::kIo, "disk"); }), ErrorKind::kIo);
  EXPECT_EQ(public_call([] { return 3; }), 3);
  EXPECT_THROW(public_call([] { throw std::runtime_error("a callback's"); }), std::runtime_error);
}

// LibTorch's first parallel loop on a thread would choose its number of threads.
TEST(PublicCallTest, KeepsTheNumberOfThreads) {
  int threads = 0;
  std::thread([&threads] {
    set_thread_count(7);
    public_call([] { return at::ones({1 << 20}).sum().item<float>(); });
    threads = thread_count();
  }).join();
  EXPECT_EQ(threads, 7);
}

TEST(FileTensorTest, WrapsWithoutCopyAndConvertsToFloat) {
  const at::Tensor source = at::tensor({1.5, -2.0, 0.25}).to(at::kBFloat16);
  const TensorView view{"x", dtype_of(source), {3}, bytes_of(source)};
  EXPECT_EQ(wrap(view).const_data_ptr(), source.const_data_ptr());
  EXPECT_TRUE(at::equal(to_float32(view), at::tensor({1.5f, -2.0f, 0.25f})));
}

TEST(FileTensorTest, CodesAreNoWeights) {
  const at::Tensor codes = at::ones({2}, at::kChar);
  EXPECT_THROW(to_float32({"x", dtype_of(codes), {2}, bytes_of(codes)}), Error);
}

}  // namespace
}  // namespace qvlm
