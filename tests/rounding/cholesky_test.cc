#include "rounding/cholesky.h"

#include <gtest/gtest.h>

#include "base/parallel.h"

namespace qvlm {
namespace {

at::Tensor positive_definite(std::int64_t n) {
  at::manual_seed(n);
  const at::Tensor half = at::randn({n, n}, at::kDouble);
  return at::mm(half, half.t()) / n + 0.1 * at::eye(n, at::kDouble);
}

TEST(CholeskyTest, FactorTimesItsTransposeIsTheMatrix) {
  for (const std::int64_t n : {1, 255, 256, 700}) {
    const at::Tensor matrix = positive_definite(n);
    at::Tensor factor = matrix.tril();  // nothing above the diagonal is read
    ASSERT_TRUE(factorize_cholesky(factor));
    const at::Tensor lower = factor.tril();
    // Sums of n products of numbers around 1.
    EXPECT_LE((at::mm(lower, lower.t()) - matrix).abs().max().item<double>(), n * 0x1p-48) << n;
  }
}

TEST(CholeskyTest, IsTheSameForAnyThreads) {
  const at::Tensor matrix = positive_definite(900);
  const auto factor = [&](int threads) {
    set_thread_count(threads);
    at::Tensor result = matrix.clone();
    EXPECT_TRUE(factorize_cholesky(result));
    set_thread_count(0);
    return result.tril();
  };
  const at::Tensor one = factor(1);
  EXPECT_TRUE(at::equal(factor(2), one));
  EXPECT_TRUE(at::equal(factor(3), one));
}

TEST(CholeskyTest, SaysWhereThereIsNone) {
  for (const std::int64_t bad : {0, 300, 599}) {
    at::Tensor matrix = positive_definite(600);
    matrix.index_put_({bad, bad}, -1.0);
    EXPECT_FALSE(factorize_cholesky(matrix)) << bad;
  }
}

}  // namespace
}  // namespace qvlm
