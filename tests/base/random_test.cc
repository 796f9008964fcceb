#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace qvlm {
namespace {

TEST(Random, IsSplitMix64) {
  // The first outputs of the published reference program for seed 1234567.
  Random random(1234567);
  for (const std::uint64_t want : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                   4593380528125082431u, 16408922859458223821u}) {
    EXPECT_EQ(random.next(), want);
  }
}

TEST(Random, BelowIsUnbiasedAndInRange) {
  Random random(1);
  constexpr int kDraws = 30000;
  std::array<int, 3> counts = {};
  for (int i = 0; i < kDraws; ++i)
    ++counts[random.below(3)];
  // Each count is binomial with deviation sqrt(n * 1/3 * 2/3) = 82; 5 deviations.
  for (const int count : counts)
    EXPECT_NEAR(count, kDraws / 3, 410);
  EXPECT_EQ(random.below(1), 0u);
}

TEST(Random, NormalHasTheRightMoments) {
  Random random(2);
  constexpr int kDraws = 40000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = random.normal();
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += value * value;
  }
  // Deviations of the estimates: 1 / sqrt(n) = 0.005 and sqrt(2 / n) = 0.0071; 5 of each.
  EXPECT_NEAR(sum / kDraws, 0, 0.025);
  EXPECT_NEAR(squares / kDraws, 1, 0.036);
}

TEST(Random, ShuffleIsAPermutationThatTheSeedDecides) {
  std::vector<int> first(100);
  for (int i = 0; i < 100; ++i)
    first[static_cast<std::size_t>(i)] = i;
  const std::vector<int> sorted = first;
  std::vector<int> second = first;
  Random(3).shuffle(first);
  Random(3).shuffle(second);
  EXPECT_EQ(first, second);
  EXPECT_NE(first, sorted);
  std::sort(first.begin(), first.end());
  EXPECT_EQ(first, sorted);
}

}  // namespace
}  // namespace qvlm
