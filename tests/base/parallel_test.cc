#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace qvlm {
namespace {

class ParallelTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_thread_count(GetParam()); }
  void TearDown() override { set_thread_count(0); }
};

TEST_P(ParallelTest, CoversEveryIndexOnce) {
  for (const std::int64_t n : {0, 1, 7, 100, 1001}) {
    for (const std::int64_t grain : {0, 1, 8, 5000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      for_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
        ASSERT_LT(begin, end);
        for (std::int64_t i = begin; i < end; ++i)
          ++visits[static_cast<std::size_t>(i)];
      });
      for (const std::atomic<int>& count : visits)
        EXPECT_EQ(count, 1);
    }
  }
}

TEST_P(ParallelTest, ThrowsWhatTheFunctionThrew) {
  const auto call = [] {
    for_ranges(64, 1, [](std::int64_t begin, std::int64_t) {
      if (begin == 0) throw std::out_of_range("here");
    });
  };
  EXPECT_THROW(call(), std::out_of_range);
}

TEST_P(ParallelTest, StopsAfterAnException) {
  std::atomic<int> calls = 0;
  const auto call = [&] {
    for_ranges(100000, 1, [&](std::int64_t, std::int64_t) {
      ++calls;
      throw std::out_of_range("here");
    });
  };
  EXPECT_THROW(call(), std::out_of_range);
  EXPECT_LE(calls, GetParam());  // at most one per thread
}

TEST_P(ParallelTest, NestedCallsFinish) {
  std::atomic<int> sum = 0;
  for_ranges(4, 1, [&](std::int64_t begin, std::int64_t end) {
    for_ranges(10, 1, [&](std::int64_t first, std::int64_t last) {
      sum += static_cast<int>((end - begin) * (last - first));
    });
  });
  EXPECT_EQ(sum, 40);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelTest, ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace qvlm
