// The joint search against brute force, on a toy whose layers are scalar functions: fast enough to
// try every combination, crooked enough that greedy choices are wrong.
#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "search/block_search.h"

namespace qvlm {
namespace {

SearchOptions options_with(SearchMethod method, int beam_width = 5) {
  SearchOptions options;
  options.method = method;
  options.beam_width = beam_width;
  options.activation_clip = {1.0, 0.9, 0.8, 0.7};
  options.weight_clip = {1.0, 0.5};
  return options;
}

// Layer l with setting s maps x to a * x + b with random a and b; the float model to others.
class Toy : public BlockTrial {
 public:
  Toy(int depth, const Candidates& candidates, std::uint64_t seed)
      : depth_(depth), candidates_(candidates), random_(seed), input_({at::tensor({1.0, -0.5})}) {
    States exact = input_;
    for (int layer = 0; layer < depth; ++layer) {
      exact = {exact[0] * 1.5 + 0.1 * layer};
      reference_.push_back(exact);
    }
  }

  int depth() const override { return depth_; }
  const States& input() const override { return input_; }
  States run(int layer, const Setting& setting, const States& in) override {
    ++runs;
    const auto [scale, shift] = function(layer, setting);
    return {in[0] * scale + shift};
  }
  double error(int layer, const States& out) override {
    return (out[0] - reference_[static_cast<std::size_t>(layer)][0]).square().sum().item<double>();
  }

  int runs = 0;

 private:
  std::pair<double, double> function(int layer, const Setting& setting) {
    std::vector<int> key = setting;
    key.push_back(layer);
    const auto [place, fresh] = functions_.try_emplace(key);
    if (fresh) {
      place->second = {1.5 + 0.6 * (random_.uniform() - 0.5), 0.6 * (random_.uniform() - 0.5)};
    }
    return place->second;
  }

  int depth_;
  const Candidates& candidates_;
  Random random_;
  States input_;
  std::vector<States> reference_;
  std::map<std::vector<int>, std::pair<double, double>> functions_;
};

double error_of(Toy& toy, const std::vector<Setting>& settings) {
  States states = toy.input();
  for (std::size_t i = 0; i < settings.size(); ++i)
    states = toy.run(static_cast<int>(i), settings[i], states);
  return toy.error(static_cast<int>(settings.size()) - 1, states);
}

// All combinations of shared candidates, the first layer changing slowest.
std::vector<std::vector<Setting>> all_combinations(const Candidates& candidates, int depth) {
  std::vector<std::vector<Setting>> all = {{}};
  for (int layer = 0; layer < depth; ++layer) {
    std::vector<std::vector<Setting>> longer;
    for (const auto& beginning : all) {
      for (const Setting& setting : candidates.shared()) {
        longer.push_back(beginning);
        longer.back().push_back(setting);
      }
    }
    all = std::move(longer);
  }
  return all;
}

std::vector<Setting> greedy_combination(Toy& toy, const Candidates& candidates) {
  std::vector<Setting> greedy;
  for (int layer = 0; layer < toy.depth(); ++layer) {
    std::vector<Setting> best;
    double best_error = std::numeric_limits<double>::infinity();
    for (const Setting& setting : candidates.shared()) {
      std::vector<Setting> tried = greedy;
      tried.push_back(setting);
      const double error = error_of(toy, tried);
      if (error < best_error) {
        best_error = error;
        best = tried;
      }
    }
    greedy = best;
  }
  return greedy;
}

TEST(BlockSearchTest, ExhaustiveEqualsBruteForce) {
  const SearchOptions options = options_with(SearchMethod::kExhaustive);
  const Candidates candidates(options, 4);
  int better = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Toy toy(3, candidates, seed);
    std::vector<Setting> best;
    double best_error = std::numeric_limits<double>::infinity();
    for (const auto& combination : all_combinations(candidates, 3)) {
      const double error = error_of(toy, combination);
      if (error < best_error) {
        best_error = error;
        best = combination;
      }
    }
    toy.runs = 0;
    const BlockResult result = search_block(toy, candidates, options);
    EXPECT_EQ(result.settings, best) << seed;
    EXPECT_EQ(result.error, best_error);
    EXPECT_EQ(result.greedy, greedy_combination(toy, candidates));
    EXPECT_LE(result.error, result.greedy_error);
    EXPECT_EQ(result.forwards, 8 + 64 + 512);
    better += result.error < result.greedy_error ? 1 : 0;
  }
  EXPECT_GT(better, 10);  // the toy tells joint from greedy
}

TEST(BlockSearchTest, EveryMethodCountsItsRunsAndIsNeverWorseThanGreedy) {
  for (const SearchMethod method :
       {SearchMethod::kExhaustive, SearchMethod::kBeam, SearchMethod::kDescent}) {
    const SearchOptions options = options_with(method, 3);
    const Candidates candidates(options, 4);
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      Toy toy(3, candidates, seed);
      const BlockResult result = search_block(toy, candidates, options);
      EXPECT_EQ(result.forwards, toy.runs);
      EXPECT_EQ(result.greedy, greedy_combination(toy, candidates));
      EXPECT_LE(result.error, result.greedy_error);
      EXPECT_EQ(result.error, error_of(toy, result.settings));
    }
  }
}

TEST(BlockSearchTest, DepthOneIsTheLayerWiseSearch) {
  const SearchOptions options = options_with(SearchMethod::kExhaustive);
  const Candidates candidates(options, 4);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Toy toy(1, candidates, seed);
    const BlockResult result = search_block(toy, candidates, options);
    EXPECT_EQ(result.settings, result.greedy);
    EXPECT_EQ(result.error, result.greedy_error);
  }
}

TEST(BlockSearchTest, AWideBeamIsExhaustive) {
  const Candidates candidates(options_with(SearchMethod::kBeam), 4);
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    Toy toy(3, candidates, seed);
    const BlockResult exhaustive =
        search_block(toy, candidates, options_with(SearchMethod::kExhaustive));
    const BlockResult beam = search_block(toy, candidates, options_with(SearchMethod::kBeam, 64));
    EXPECT_EQ(beam.settings, exhaustive.settings);
    EXPECT_EQ(beam.forwards, exhaustive.forwards);
    const BlockResult narrow = search_block(toy, candidates, options_with(SearchMethod::kBeam, 2));
    EXPECT_EQ(narrow.forwards, 8 + 16 + 16);
    EXPECT_GE(narrow.error, exhaustive.error);
  }
}

TEST(BlockSearchTest, DescentEndsWhereNoAxisImproves) {
  SearchOptions options = options_with(SearchMethod::kDescent);
  options.per_linear = true;
  const Candidates candidates(options, 4);
  Toy toy(2, candidates, 7);
  const BlockResult result = search_block(toy, candidates, options);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    for (std::size_t axis = 0; axis < candidates.axes().size(); ++axis) {
      for (int value = 0; value < candidates.axes()[axis]; ++value) {
        std::vector<Setting> changed = result.settings;
        changed[layer][axis] = value;
        EXPECT_GE(error_of(toy, changed), result.error);
      }
    }
  }
}

// A toy whose candidates are all alike.
class Level : public BlockTrial {
 public:
  int depth() const override { return 2; }
  const States& input() const override { return input_; }
  States run(int, const Setting&, const States& in) override { return in; }
  double error(int, const States&) override { return 1.0; }

 private:
  States input_ = {at::ones({1})};
};

TEST(BlockSearchTest, OfEqualErrorsTheLessClippedWins) {
  for (const SearchMethod method :
       {SearchMethod::kExhaustive, SearchMethod::kBeam, SearchMethod::kDescent}) {
    const SearchOptions options = options_with(method);
    const Candidates candidates(options, 4);
    Level level;
    const BlockResult result = search_block(level, candidates, options);
    EXPECT_EQ(result.settings,
              (std::vector<Setting>{candidates.shared().front(), candidates.shared().front()}));
  }
}

}  // namespace
}  // namespace qvlm
