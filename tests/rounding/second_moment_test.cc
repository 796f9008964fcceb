// Second moments against one product of everything.
#include "rounding/second_moment.h"

#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <limits>

#include "base/parallel.h"

namespace qvlm {
namespace {

at::Tensor random_tensor(c10::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kFloat);
}

TEST(SecondMoment, IsTheWeighedMeanOverAllThatWasAdded) {
  const at::Tensor x = random_tensor({10, 6}, 1);
  SecondMoment parts;
  parts.add(x.slice(0, 0, 3));
  parts.add(x.slice(0, 3, 10));
  const at::Tensor want = at::matmul(x.t(), x).to(at::kDouble) / 10.0;
  EXPECT_TRUE(at::allclose(parts.matrix(), want, 1e-5, 1e-6));
  // A weight of 3 is as good as being there three times, one of 0 as not being there.
  SecondMoment weighed, repeated;
  weighed.add(x.slice(0, 0, 3), at::tensor({3.0f, 1.0f, 0.0f}));
  repeated.add(x.index_select(0, at::tensor({0, 0, 0, 1}, at::kLong)));
  EXPECT_TRUE(at::allclose(weighed.matrix(), repeated.matrix(), 1e-5, 1e-6));
  EXPECT_THROW(SecondMoment().matrix(), Error);
  EXPECT_THROW(weighed.add(at::full({1, 6}, std::numeric_limits<float>::quiet_NaN())), Error);
}

TEST(SecondMoment, DoesNotDependOnThreads) {
  const at::Tensor x = random_tensor({96, 1100}, 2);
  const auto moment = [&] {
    SecondMoment sum;
    sum.add(x);
    sum.add(x.slice(0, 0, 50));
    return sum.matrix();
  };
  const at::Tensor many = moment();
  EXPECT_TRUE(at::equal(many, many.t()));
  const int threads = thread_count();
  set_thread_count(1);
  const at::Tensor one = moment();
  set_thread_count(threads);
  EXPECT_TRUE(at::equal(one, many));
}

}  // namespace
}  // namespace qvlm
