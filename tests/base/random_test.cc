#include "base/random.h"

#include <gtest/gtest.h>

#include <array>

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

TEST(Random, UniformFillsTheUnitInterval) {
  Random random(2);
  constexpr int kDraws = 40000;
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = random.uniform();
    ASSERT_TRUE(value >= 0 && value < 1);
    sum += value;
  }
  // Deviation of the mean: 1 / sqrt(12 n) = 0.00144; 5 of it.
  EXPECT_NEAR(sum / kDraws, 0.5, 0.0072);
}

}  // namespace
}  // namespace qvlm
