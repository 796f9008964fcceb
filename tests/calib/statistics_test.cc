#include "calib/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "io/safetensors.h"
#include "support/temporary_folder.h"
#include "tensor/file_tensor.h"

namespace qvlm {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Heavy tails, a loud channel and a silent one.
at::Tensor make_activations(std::int64_t tokens, std::int64_t in, std::uint64_t seed = 1) {
  at::manual_seed(seed);
  at::Tensor values = at::randn({tokens, in}).pow(3);
  values.select(1, 0).zero_();
  values.select(1, in - 1).mul_(30);
  return values;
}

InputStatistics collect(const at::Tensor& activations) {
  InputStatistics statistics;
  statistics.add(activations);
  return statistics;
}

std::vector<float> sorted_magnitudes(const at::Tensor& values) {
  const at::Tensor flat = std::get<0>(values.abs().flatten().sort());
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

// What a file keeps of one object, by part.
std::map<std::string, at::Tensor> parts_of(const InputStatistics& statistics) {
  const TemporaryFolder folder;
  InputStatistics::save(folder.path() / "one", {{"x", statistics}});
  const SafetensorsFile file(folder.path() / "one");
  std::map<std::string, at::Tensor> parts;
  for (const auto& [name, view] : file.tensors())
    parts[name] = wrap(view).clone();
  return parts;
}

void expect_equal(const InputStatistics& got, const InputStatistics& want) {
  const auto ours = parts_of(got), theirs = parts_of(want);
  ASSERT_EQ(ours.size(), 5u);
  for (const auto& [name, part] : ours)
    EXPECT_TRUE(at::equal(part, theirs.at(name))) << name;
}

void expect_refused(const std::function<void()>& call, ErrorKind kind, const std::string& word) {
  try {
    call();
    ADD_FAILURE() << "not refused: " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << word;
    EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

TEST(InputStatistics, HoldsExtremesAndSquares) {
  const at::Tensor values = make_activations(300, 40);
  const InputStatistics statistics = collect(values);
  EXPECT_EQ(statistics.tokens(), 300);
  EXPECT_EQ(statistics.channels(), 40);
  EXPECT_TRUE(at::equal(statistics.low(), values.amin(0)));
  EXPECT_TRUE(at::equal(statistics.high(), values.amax(0)));
  const at::Tensor expected = values.to(at::kDouble).square().mean(0);
  // Sums of 300 positive numbers: 300 * 2^-53.
  EXPECT_TRUE(at::allclose(statistics.second_moment(), expected, 4e-14, 0.0));
}

TEST(InputStatistics, TakesOtherTypesAndLayouts) {
  const at::Tensor values = make_activations(20, 8).to(at::kBFloat16);
  expect_equal(collect(values), collect(values.to(at::kFloat)));
  expect_equal(collect(values.t()), collect(values.t().contiguous()));
}

// One bin is 1/32 of an octave's beginning wide, and the bin's end is what is returned.
TEST(InputStatistics, QuantileIsWithinABinOfTheSortedOne) {
  const at::Tensor values = make_activations(500, 30);
  const InputStatistics statistics = collect(values);
  const std::vector<float> sorted = sorted_magnitudes(values);
  for (const double share : {0.01, 0.033, 0.034, 0.1, 0.5, 0.9, 0.98, 0.999, 0.9999, 1.0}) {
    const auto within =
        static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
    const double exact = sorted[within - 1], got = statistics.magnitude_quantile(share);
    EXPECT_GE(got, exact) << share;
    EXPECT_LE(got, std::max(exact * 33 / 32, std::ldexp(1.0, -30))) << share;
    EXPECT_LE(got, sorted.back()) << share;
  }
  EXPECT_EQ(statistics.magnitude_quantile(1.0), sorted.back());
}

TEST(InputStatistics, QuantileKnowsItsBins) {
  // A power of two begins a bin; float numbers just below it belong to the one before.
  for (const int exponent : {-29, -3, 0, 5, 17}) {
    const auto power = static_cast<float>(std::ldexp(1.0, exponent));
    const InputStatistics statistics =
        collect(at::tensor({std::nextafter(power, 0.0F), -power, 300000.0F}).unsqueeze(1));
    EXPECT_EQ(statistics.magnitude_quantile(0.3), power);
    EXPECT_EQ(statistics.magnitude_quantile(0.6), power * 33 / 32);
  }
  // Beyond the histogram: below 2^-30, and from 2^18 on.
  const InputStatistics wide = collect(at::tensor({1e-30F, 3e5F, -1e30F}).unsqueeze(1));
  EXPECT_EQ(wide.magnitude_quantile(0.3), std::ldexp(1.0, -30));
  EXPECT_EQ(wide.magnitude_quantile(0.6), 1e30F);
  EXPECT_EQ(collect(at::zeros({3, 2})).magnitude_quantile(0.5), 0.0);
  EXPECT_EQ(collect(at::full({3, 2}, 1e-20)).magnitude_quantile(0.5), 1e-20F);
}

double raw_error(const at::Tensor& values, double range, int bits, double p) {
  const double step = 2 * range / ((1 << bits) - 1), top = 1 << (bits - 1);
  const at::Tensor rounded = (values / step).round().clamp(-top, top - 1) * step;
  return (rounded - values).abs().pow(p).sum().item<double>();
}

// Of the edges between the largest magnitude and 1/8 of it, the best on the values themselves.
double best_raw_error(const at::Tensor& values, int bits, double p) {
  const double largest = values.abs().max().item<double>();
  double least = raw_error(values, largest, bits, p);
  for (int step = 0; step < 5 * 32; ++step) {
    const double range = std::ldexp(1 + step % 32 / 32.0, std::ilogb(largest) - 4 + step / 32);
    if (range <= largest && range >= largest / 8)
      least = std::min(least, raw_error(values, range, bits, p));
  }
  return least;
}

// The histogram does not know where in its bin, up to 1/32 wide, a value is. Taken as spread
// evenly, which both distributions nearly are inside a bin, the choice costs what chance moves
// between the rounding errors of 8000 values, a few percent at most. Where bins are wider than
// steps, 8 bits, their centres alone would cost 13 % of normal values.
TEST(InputStatistics, LpRangeIsAsGoodAsTheBestOnTheValues) {
  for (const bool heavy : {false, true}) {
    at::manual_seed(3);
    at::Tensor values = at::randn({1000, 8});
    if (heavy) values = values.pow(3);
    const InputStatistics statistics = collect(values);
    const at::Tensor exact = values.to(at::kDouble);
    for (const int bits : {2, 4, 8}) {
      for (const double p : {0.5, 2.0}) {
        const double error = raw_error(exact, statistics.lp_range(bits, p), bits, p);
        EXPECT_LE(error, 1.03 * best_raw_error(exact, bits, p)) << heavy << " " << bits << " " << p;
      }
    }
  }
}

// Half a million values lie densely enough for a choice within one bin of the best.
TEST(InputStatistics, LpRangeIsWithinABinOfTheBest) {
  at::manual_seed(4);
  const at::Tensor values = at::randn({1 << 19, 1});
  // Integrating (x - round(x))^2 over the normal density is least at 2.54; bins are 1/16 wide
  // there.
  EXPECT_NEAR(collect(values).lp_range(4, 2.0), 2.54, 1.0 / 16);
}

TEST(InputStatistics, LpRangeOfPlainCases) {
  const InputStatistics even = collect(at::linspace(-1, 1, 100001).unsqueeze(1));
  EXPECT_EQ(even.lp_range(8, 2.0), 1.0);
  EXPECT_EQ(collect(at::zeros({3, 2})).lp_range(4, 0.5), 0.0);
  EXPECT_EQ(collect(at::full({3, 2}, 1e-20)).lp_range(4, 0.5), 1e-20F);
  // An outlier moves the range of p = 2 far more than that of p = 0.5.
  at::manual_seed(1);
  at::Tensor values = at::randn({10000, 1});
  values[0] = 20.0;
  const InputStatistics loud = collect(values);
  EXPECT_LT(loud.lp_range(4, 0.5), loud.lp_range(4, 4.0));
  EXPECT_GE(loud.lp_range(4, 0.5), 20.0 / 8);
}

TEST(InputStatistics, MergedPartsAreTheWhole) {
  const at::Tensor values = make_activations(700, 12);
  InputStatistics whole, merged, second;
  whole.add(values);
  merged.add(values.slice(0, 0, 300));
  second.add(values.slice(0, 300, 301));
  second.add(values.slice(0, 301));
  merged.merge(second);
  merged.merge(InputStatistics());
  const auto ours = parts_of(merged), theirs = parts_of(whole);
  for (const char* part : {"x.tokens", "x.histogram", "x.low", "x.high"})
    EXPECT_TRUE(at::equal(ours.at(part), theirs.at(part))) << part;
  // Sums of 700 positive numbers: 700 * 2^-53.
  EXPECT_TRUE(at::allclose(ours.at("x.squares"), theirs.at("x.squares"), 1e-13, 0.0));
  InputStatistics copy;
  copy.merge(whole);
  expect_equal(copy, whole);
}

TEST(InputStatistics, CopiesGoTheirOwnWay) {
  const InputStatistics before = collect(make_activations(50, 4));
  InputStatistics copy = before;
  copy.add(make_activations(50, 4, 2) * 100);
  expect_equal(before, collect(make_activations(50, 4)));
}

TEST(InputStatistics, DoNotDependOnThreads) {
  const at::Tensor values = make_activations(1000, 70);
  set_thread_count(1);
  const InputStatistics serial = collect(values);
  const double range = serial.lp_range(4, 0.5);
  set_thread_count(2);
  expect_equal(collect(values), serial);
  EXPECT_EQ(serial.lp_range(4, 0.5), range);
  set_thread_count(0);
}

TEST(InputStatistics, RefusesWhatDoesNotFitAndKeepsWhatItHas) {
  const at::Tensor values = make_activations(300, 6);
  InputStatistics statistics = collect(values);
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    at::Tensor broken = values.clone();
    broken[299][4] = bad;
    expect_refused([&] { statistics.add(broken); }, ErrorKind::kCorrupt, "channel 4");
  }
  const ErrorKind invalid = ErrorKind::kInvalidArgument;
  expect_refused([&] { statistics.add(at::ones({3, 7})); }, invalid, "expected shape [*, 6]");
  expect_refused([&] { statistics.add(at::ones({6})); }, invalid, "expected shape [*, 6]");
  expect_refused([&] { statistics.merge(collect(at::ones({3, 7}))); }, invalid, "6 channels");
  expect_refused([&] { statistics.magnitude_quantile(0.0); }, invalid, "(0, 1]");
  expect_refused([&] { statistics.magnitude_quantile(1.1); }, invalid, "(0, 1]");
  expect_refused([&] { statistics.lp_range(1, 0.5); }, invalid, "2..8 bits");
  expect_refused([&] { statistics.lp_range(4, 0.0); }, invalid, "positive p");
  statistics.add(at::ones({0, 6}));
  expect_equal(statistics, collect(values));

  InputStatistics empty;
  empty.add(at::ones({0, 5}));
  EXPECT_EQ(empty.channels(), 0);
  expect_refused([&] { empty.magnitude_quantile(0.5); }, invalid, "nothing was added");
  expect_refused([&] { empty.lp_range(4, 0.5); }, invalid, "nothing was added");
  expect_refused([&] { empty.second_moment(); }, invalid, "nothing was added");
}

TEST(InputStatisticsFile, ReadsBackBitForBit) {
  const TemporaryFolder folder;
  const std::map<std::string, InputStatistics> all = {
      {"decoder.layers.0.attn.q_proj", collect(make_activations(20, 7))},
      {"decoder.layers.0.mlp.down_proj", collect(make_activations(9, 33, 2))}};
  const std::filesystem::path file = folder.path() / "statistics.safetensors";
  InputStatistics::save(file, all);
  const auto back = InputStatistics::load(file);
  ASSERT_EQ(back.size(), 2u);
  for (const auto& [linear, statistics] : all)
    expect_equal(back.at(linear), statistics);
  InputStatistics::save(folder.path() / "again", back);
  EXPECT_EQ(read_text_file(folder.path() / "again"), read_text_file(file));
  // What was read goes on like what was collected.
  InputStatistics more = back.at("decoder.layers.0.attn.q_proj");
  more.add(make_activations(20, 7, 3));
  EXPECT_EQ(more.tokens(), 40);
}

TEST(InputStatisticsFile, RefusesStatisticsOfNothing) {
  const TemporaryFolder folder;
  const auto call = [&] { InputStatistics::save(folder.path() / "s", {{"vision.3", {}}}); };
  expect_refused(call, ErrorKind::kInvalidArgument, "'vision.3'");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "s"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

class BrokenStatisticsTest : public ::testing::Test {
 protected:
  BrokenStatisticsTest() : parts_(parts_of(collect(make_activations(20, 7)))) {}

  // Writes parts_ and expects load() to name the file, the tensor and what is wrong.
  void expect_corrupt(const std::string& tensor, const std::string& word) {
    const std::filesystem::path path = folder_.path() / "broken.safetensors";
    std::vector<TensorInfo> infos;
    for (const auto& [name, part] : parts_)
      infos.push_back({name, dtype_of(part), part.sizes().vec()});
    SafetensorsWriter writer(path, infos, {});
    for (const auto& [name, part] : parts_)
      writer.write(name, bytes_of(part));
    writer.commit();
    const auto call = [&] { InputStatistics::load(path); };
    expect_refused(call, ErrorKind::kCorrupt, "broken.safetensors: tensor '" + tensor + "'");
    expect_refused(call, ErrorKind::kCorrupt, word);
  }

  TemporaryFolder folder_;
  std::map<std::string, at::Tensor> parts_;
};

TEST_F(BrokenStatisticsTest, MissingPart) {
  parts_.erase("x.low");
  expect_corrupt("x.low", "missing");
}

TEST_F(BrokenStatisticsTest, UnknownPart) {
  parts_["x.median"] = at::ones({7});
  expect_corrupt("x.median", "no part");
}

TEST_F(BrokenStatisticsTest, NameWithoutLinear) {
  parts_["low"] = at::ones({7});
  expect_corrupt("low", "no part");
}

TEST_F(BrokenStatisticsTest, WrongType) {
  parts_["x.squares"] = parts_["x.squares"].to(at::kFloat);
  expect_corrupt("x.squares", "expected F64 [in]");
}

TEST_F(BrokenStatisticsTest, WrongSizes) {
  parts_["x.high"] = at::ones({8});
  expect_corrupt("x.high", "expected F32 [7], got x.high F32 [8]");
  parts_["x.squares"] = at::ones({0}, at::kDouble);
  expect_corrupt("x.squares", "[0]");
  parts_["x.histogram"] = at::ones({100}, at::kLong);
  expect_corrupt("x.histogram", "I64 [100]");
}

TEST_F(BrokenStatisticsTest, WrongValues) {
  parts_["x.tokens"] = at::full({1}, 21, at::kLong);
  expect_corrupt("x.tokens", "as many tokens");
  parts_["x.histogram"][5] = -1;
  expect_corrupt("x.histogram", "counts");
  parts_["x.squares"][2] = -1.0;
  expect_corrupt("x.squares", "below zero");
  parts_["x.high"][2] = kInfinity;
  expect_corrupt("x.high", "finite");
  parts_["x.low"][3] = 1e9;
  expect_corrupt("x.low", "above");
}

TEST_F(BrokenStatisticsTest, NoFile) {
  expect_refused([] { InputStatistics::load("/nowhere/statistics"); }, ErrorKind::kNotFound,
                 "/nowhere/statistics");
}

}  // namespace
}  // namespace qvlm
