// Candidates: the order of settings, what they stand for, and lists that cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/error.h>

#include "search/candidates.h"

namespace qvlm {
namespace {

using testing::HasSubstr;

TEST(CandidatesTest, LeastClippedFirst) {
  SearchOptions options;
  options.activation_clip = {0.8, 1.0, 0.9};
  options.weight_clip = {0.5, 1.0};
  const Candidates candidates(options, 4);
  ASSERT_EQ(candidates.shared().size(), 6U);
  std::vector<InputClips> clips;
  for (const Setting& setting : candidates.shared()) {
    const LayerClips layer = candidates.clips(setting);
    ASSERT_EQ(layer.size(), 4U);
    for (const InputClips& input : layer)
      EXPECT_EQ(input, layer.front());
    clips.push_back(layer.front());
  }
  EXPECT_EQ(clips, (std::vector<InputClips>{
                       {1.0, 1.0}, {0.9, 1.0}, {0.8, 1.0}, {1.0, 0.5}, {0.9, 0.5}, {0.8, 0.5}}));
  EXPECT_EQ(candidates.axes(), (std::vector<int>{3, 2}));
}

TEST(CandidatesTest, PerLinearHasAnAxisForEveryInput) {
  SearchOptions options;
  options.method = SearchMethod::kDescent;
  options.per_linear = true;
  options.activation_clip = {1.0, 0.9};
  const Candidates candidates(options, 4);
  EXPECT_EQ(candidates.axes(), (std::vector<int>{2, 2, 2, 2, 1, 1, 1, 1}));
  EXPECT_EQ(candidates.clips({0, 1, 0, 1, 0, 0, 0, 0}),
            (LayerClips{{1.0, 1.0}, {0.9, 1.0}, {1.0, 1.0}, {0.9, 1.0}}));
}

TEST(CandidatesTest, MistakesAreNamed) {
  const auto message = [](const SearchOptions& options) -> std::string {
    try {
      const Candidates candidates(options, 4);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message({.activation_clip = {}}), HasSubstr("activation_clip is empty"));
  EXPECT_THAT(message({.activation_clip = {1.0, 1.1}}), HasSubstr("1.1"));
  EXPECT_THAT(message({.weight_clip = {0.0}}), HasSubstr("weight_clip"));
  EXPECT_THAT(message({.weight_clip = {0.5, 0.5}}), HasSubstr("given twice"));
  EXPECT_THAT(message({.per_linear = true}), HasSubstr("descent"));
}

}  // namespace
}  // namespace qvlm
