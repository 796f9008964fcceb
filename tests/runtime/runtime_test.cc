// Sampler and stop texts. Whole generation is checked on real models in tests/model and tests/cli.
#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <limits>
#include <map>

#include "runtime/sampler.h"
#include "runtime/stop_text.h"

namespace qvlm {
namespace {

TEST(SamplerTest, GreedyTakesTheLowestOfEqualMaxima) {
  EXPECT_EQ(Sampler({}).pick(at::tensor({0.0f, 2.0f, -1.0f, 2.0f})), 1);
}

TEST(SamplerTest, FrequenciesFollowTheSoftmax) {
  const at::Tensor logits = at::tensor({0.0f, 1.0f, 2.0f, -30.0f});
  const at::Tensor want = at::softmax(logits / 0.7, 0);
  Sampler sampler({.temperature = 0.7, .seed = 3});
  std::map<std::int32_t, int> counts;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i)
    ++counts[sampler.pick(logits)];
  // Five standard deviations of a share: sqrt(p (1 - p) / n) <= 0.0036.
  for (int id = 0; id < 4; ++id)
    EXPECT_NEAR(counts[id] / double{kDraws}, want[id].item<double>(), 5 * 0.0036);
}

TEST(SamplerTest, TopKAndTopPCutTheTail) {
  const at::Tensor logits = at::log(at::tensor({0.5f, 0.3f, 0.15f, 0.05f}));
  Sampler top_k({.temperature = 1.0, .top_k = 2});
  Sampler top_p({.temperature = 1.0, .top_p = 0.79});
  for (int i = 0; i < 200; ++i) {
    EXPECT_LT(top_k.pick(logits), 2);
    EXPECT_LT(top_p.pick(logits), 2);
  }
}

TEST(SamplerTest, SameSeedSameTokens) {
  const at::Tensor logits = at::randn({50});
  Sampler first({.temperature = 1.0, .seed = 9}), second({.temperature = 1.0, .seed = 9});
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(first.pick(logits), second.pick(logits));
}

TEST(SamplerTest, RefusesNonsense) {
  EXPECT_THROW(Sampler({.temperature = -1.0}), Error);
  EXPECT_THROW(Sampler({.top_p = 0.0}), Error);
  EXPECT_THROW(Sampler({}).pick(at::full({3}, -HUGE_VALF)), Error);
  EXPECT_EQ(Sampler({}).pick(at::tensor({-HUGE_VALF, 0.0f})), 1);  // a masked token is no damage
  EXPECT_THROW(Sampler({}).pick(at::tensor({1.0f, std::numeric_limits<float>::quiet_NaN()})),
               Error);
  EXPECT_THROW(Sampler({}).pick(at::tensor({1.0f, std::numeric_limits<float>::infinity()})), Error);
}

TEST(StopTextTest, HoldsBackOnlyWhatMayBeAStop) {
  StopText stop({"###", "END"});
  EXPECT_EQ(stop.push("a#"), "a");
  EXPECT_EQ(stop.push("b##"), "#b");
  EXPECT_EQ(stop.push("#c"), "");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.push("more"), "");
}

TEST(StopTextTest, ShowsTheRestAtTheEnd) {
  StopText stop({"END"});
  EXPECT_EQ(stop.push("the EN"), "the ");
  EXPECT_EQ(stop.finish(), "EN");
  EXPECT_FALSE(stop.found());
}

}  // namespace
}  // namespace qvlm
