// gate(), its statistics and its limits, on reports made by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>
#include <qvlm/gate.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/random.h"
#include "eval/bootstrap.h"
#include "eval/logits_file.h"
#include "eval/power.h"
#include "io/sha256.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Bootstrap, IntervalIsThatOfTheNormalDistributionForManyValues) {
  Random random(1);
  std::vector<double> values(2000);
  for (double& value : values)
    value = random.uniform();
  std::vector<std::size_t> alone(values.size());
  std::iota(alone.begin(), alone.end(), 0);
  const Interval interval = bootstrap_mean(values, alone);
  // Standard error of a uniform mean: sqrt(1 / 12 / n). 4000 draws know its quantile to 3 %.
  const double expected = 1.96 * std::sqrt(1.0 / 12.0 / 2000.0);
  EXPECT_NEAR(interval.half_width(), expected, 0.08 * expected);
}

TEST(Bootstrap, QuestionsOfAnImageAreDrawnTogether) {
  // Pairs of equal values say half as much as their number: the interval is sqrt(2) times as wide.
  Random random(2);
  std::vector<double> values;
  std::vector<std::size_t> alone, pairs;
  for (std::size_t i = 0; i < 1000; ++i) {
    const double value = random.uniform();
    for (std::size_t k = 0; k < 2; ++k) {
      values.push_back(value);
      alone.push_back(2 * i + k);
      pairs.push_back(i);
    }
  }
  const double ratio =
      bootstrap_mean(values, pairs).half_width() / bootstrap_mean(values, alone).half_width();
  EXPECT_NEAR(ratio, std::sqrt(2.0), 0.1);
}

TEST(MedianRange, HoldsTheMedianNineteenTimesOfTwenty) {
  // Order statistics of the binomial distribution: 9 values, the second from either end (96.1 %);
  // of 5 all of them (93.8 %).
  EXPECT_EQ(median_range({9, 8, 7, 6, 5, 4, 3, 2, 1}).low, 2.0);
  EXPECT_EQ(median_range({9, 8, 7, 6, 5, 4, 3, 2, 1}).high, 8.0);
  EXPECT_EQ(median_range({5, 4, 3, 2, 1}).low, 1.0);
  EXPECT_EQ(median_range({7}).high, 7.0);
  Random random(4);
  int held = 0;
  constexpr int kTrials = 4000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> values(15);
    for (double& value : values)
      value = random.uniform();
    const Interval range = median_range(values);
    held += range.low <= 0.5 && 0.5 <= range.high ? 1 : 0;
  }
  EXPECT_GE(held / double{kTrials}, 0.95);
  EXPECT_LT(held / double{kTrials}, 0.985);
}

TEST(Power, DetectableShareIsFoundFourTimesOfFive) {
  // P(X = 0) = 0.2 at the mean log 5.
  EXPECT_NEAR(detectable_share(2000, 0.0), std::log(5.0) / 2000.0, 1e-6);
  // P(X <= 20) = 0.2 at the mean 24.9: one more than 1 % of 2000.
  EXPECT_NEAR(detectable_share(2000, 0.01), 24.9 / 2000.0, 2e-4);
  EXPECT_EQ(detectable_share(1, 0.9), 1.0);
}

TEST(Power, DetectableLossIsFoundFourTimesOfFive) {
  // Against simulation: the share of samples at that loss in which the rule finds it.
  for (const auto& [items, win_rate, limit] :
       {std::tuple{2000, 0.0, 0.005}, std::tuple{500, 0.01, 0.0}}) {
    const double loss = detectable_loss(items, win_rate, limit);
    Random random(3);
    int found = 0;
    constexpr int kTrials = 2000;
    for (int trial = 0; trial < kTrials; ++trial) {
      std::int64_t lost = 0, won = 0;
      for (int i = 0; i < items; ++i) {
        const double draw = random.uniform();
        lost += draw < loss + win_rate ? 1 : 0;
        won += draw > 1.0 - win_rate ? 1 : 0;
      }
      found += is_loss(lost, won, items * limit) ? 1 : 0;
    }
    // Four standard errors of a share of 0.8 in 2000 trials; the counts are binomial here.
    EXPECT_NEAR(found / double{kTrials}, kPower, 4 * std::sqrt(0.16 / kTrials) + 0.01);
  }
  EXPECT_LT(detectable_loss(9000, 0.0, 0.0), detectable_loss(2000, 0.0, 0.0));
  EXPECT_GT(detectable_loss(2000, 0.05, 0.0), detectable_loss(2000, 0.0, 0.0));
  EXPECT_EQ(detectable_loss(5, 0.0, 0.0), 1.0);
}

class GateTest : public testing::Test {
 protected:
  static constexpr int kItems = 2000;

  // Two categories, two questions an image, all right but one in a hundred.
  static Report make_reference() {
    Report report;
    report.model = "m";
    report.execution = "packed";
    report.kv_cache = "float32";
    report.protocol = "exact";
    report.max_new_tokens = 8;
    report.identity = {"m0", "d0", "qvlm", "cpu", "avx2", 2};
    report.speed = SpeedReport{{2.0, 2.1, 1.9, 2.0, 2.0, 2.05, 1.95, 2.0, 2.0},
                               {3.0, 3.1, 2.9, 3.0, 3.0, 3.05, 2.95, 3.0, 3.0}};
    report.checkpoint_bytes = 1000;
    report.weight_bytes = 2000;
    report.kv_bytes = 64;
    report.peak_memory_bytes = 200'000'000;
    for (int i = 0; i < kItems; ++i) {
      ItemResult item;
      item.id = std::to_string(i);
      item.category = i % 4 == 0 ? "colour" : "shape";
      item.answer = "red";
      item.correct = i % 100 != 7;
      item.prediction = item.correct ? "red" : "blue";
      item.tokens = 1;
      item.images = {"images/" + std::to_string(i / 2) + ".png"};
      item.options = {"red", "blue"};
      item.option_logits = {3.0F, item.correct ? 1.0F : 4.0F};
      item.margin = item.option_logits[0] - item.option_logits[1];
      report.items.push_back(item);
    }
    return report;
  }
  static void lose(Report& report, int count) {
    for (int i = 0; i < count; ++i) {
      ItemResult& item = report.items[static_cast<std::size_t>(8 + 12 * i)];
      ASSERT_TRUE(item.correct);
      item.correct = false;
      item.prediction = "blue";
      item.option_logits = {1.0F, 3.0F};
      item.margin = -2.0;
    }
  }
  static const GateRow& row(const Verdict& verdict, const std::string& what) {
    const auto found = std::ranges::find(verdict.rows, what, &GateRow::what);
    EXPECT_NE(found, verdict.rows.end()) << what;
    return *found;
  }
  static Limits all_limits() {
    Limits limits;
    limits.max_accuracy_loss = 0.005;
    limits.max_category_loss = 0.02;
    limits.max_changed_answers = 0.02;
    limits.max_option_kl = 0.001;
    limits.max_margin_drop = 0.05;
    limits.max_length_change = 0.05;
    limits.exact_bytes = true;
    limits.max_memory_ratio = 1.08;
    limits.min_speed_ratio = 0.85;
    return limits;
  }
  // Names of the rows with this outcome.
  static std::vector<std::string> names(const Verdict& verdict, GateOutcome outcome) {
    std::vector<std::string> result;
    for (const GateRow& row : verdict.rows) {
      if (row.outcome == outcome) result.push_back(row.what);
    }
    return result;
  }
};

TEST_F(GateTest, TheSameReportPassesEveryLimit) {
  const Report report = make_reference();
  const Verdict verdict = gate(report, report, all_limits());
  EXPECT_TRUE(verdict.passed());
  EXPECT_THAT(names(verdict, GateOutcome::kFail), IsEmpty());
  EXPECT_THAT(names(verdict, GateOutcome::kNoLimit), testing::ElementsAre("logit KL"));
  EXPECT_THAT(verdict.notes, IsEmpty());
}

TEST_F(GateTest, ALossOfAPointIsCaughtAndExplained) {
  const Report reference = make_reference();
  Report result = reference;
  lose(result, 20);
  const Verdict verdict = gate(result, reference, all_limits());
  EXPECT_TRUE(verdict.failed());
  const GateRow& accuracy = row(verdict, "accuracy loss");
  EXPECT_EQ(accuracy.outcome, GateOutcome::kFail);
  EXPECT_NEAR(*accuracy.change, 0.01, 1e-12);
  EXPECT_EQ(accuracy.lost, 20);
  EXPECT_EQ(accuracy.won, 0);
  EXPECT_THAT(accuracy.why, AllOf(HasSubstr("lost 20"), HasSubstr("of 2000")));
  // Poisson, 20 events: 95 % within 11.8 and 28.8.
  EXPECT_NEAR(accuracy.interval->low, 0.006, 0.0007);
  EXPECT_NEAR(accuracy.interval->high, 0.0144, 0.0007);
  EXPECT_EQ(row(verdict, "option KL").outcome, GateOutcome::kFail);
  EXPECT_EQ(row(verdict, "changed answers").outcome, GateOutcome::kPass);
}

TEST_F(GateTest, ChurnIsNoLoss) {
  const Report reference = make_reference();
  Report result = reference;
  lose(result, 16);
  for (int i = 0; i < 12; ++i) {  // were wrong
    ItemResult& item = result.items[static_cast<std::size_t>(7 + 100 * i)];
    ASSERT_FALSE(item.correct);
    item.correct = true;
  }
  Limits limits;
  limits.max_accuracy_loss = 0.0199;
  EXPECT_TRUE(gate(result, reference, limits).passed());
  limits.max_accuracy_loss =
      0.001;  // four items are not more than chance among 28, and too few to tell
  EXPECT_EQ(row(gate(result, reference, limits), "accuracy loss").outcome,
            GateOutcome::kCannotTest);
}

TEST_F(GateTest, LimitsBelowWhatItemsShowAreRefused) {
  Report reference = make_reference();
  reference.items.resize(200);
  Limits limits;
  limits.max_accuracy_loss = 0.005;
  const Verdict verdict = gate(reference, reference, limits);
  EXPECT_FALSE(verdict.passed());
  EXPECT_FALSE(verdict.failed());
  const GateRow& accuracy = row(verdict, "accuracy loss");
  EXPECT_EQ(accuracy.outcome, GateOutcome::kCannotTest);
  EXPECT_THAT(accuracy.why, AllOf(HasSubstr("200 items"), HasSubstr("0.5 %")));
  limits.max_accuracy_loss = 0.05;
  EXPECT_TRUE(gate(reference, reference, limits).passed());
}

TEST_F(GateTest, BytesMemoryAndSpeedAreJudged) {
  const Report reference = make_reference();
  const auto outcome_of = [&](const std::string& what, const std::function<void(Report&)>& change) {
    Report result = reference;
    change(result);
    const Verdict verdict = gate(result, reference, all_limits());
    const std::vector<std::string> failed = names(verdict, GateOutcome::kFail);
    EXPECT_LE(failed.size(), 1U) << what;
    return row(verdict, what).outcome;
  };
  EXPECT_EQ(outcome_of("checkpoint bytes", [](Report& r) { r.checkpoint_bytes += 1; }),
            GateOutcome::kFail);
  EXPECT_EQ(outcome_of("weight bytes", [](Report& r) { r.weight_bytes -= 1; }), GateOutcome::kFail);
  EXPECT_EQ(outcome_of("KV bytes a position", [](Report& r) { r.kv_bytes *= 2; }),
            GateOutcome::kFail);
  EXPECT_EQ(outcome_of("peak memory", [](Report& r) { r.peak_memory_bytes = 224'000'000; }),
            GateOutcome::kFail);
  EXPECT_EQ(outcome_of("peak memory", [](Report& r) { r.peak_memory_bytes = 210'000'000; }),
            GateOutcome::kPass);
  EXPECT_EQ(outcome_of("peak memory", [](Report& r) { r.identity.threads = 4; }),
            GateOutcome::kCannotTest);
  EXPECT_EQ(outcome_of("prefill speed",
                       [](Report& r) {
                         for (double& ratio : r.speed->prefill)
                           ratio *= 0.8;
                       }),
            GateOutcome::kFail);
  EXPECT_EQ(outcome_of("decode speed",
                       [](Report& r) {
                         for (double& ratio : r.speed->decode)
                           ratio *= 0.9;
                       }),
            GateOutcome::kPass);
  EXPECT_EQ(
      outcome_of("decode speed", [](Report& r) { r.speed->decode = {0.5, 3, 3, 1, 5, 6, 2}; }),
      GateOutcome::kCannotTest);
  EXPECT_EQ(outcome_of("decode speed", [](Report& r) { r.identity.cpu = "other"; }),
            GateOutcome::kCannotTest);
  EXPECT_EQ(outcome_of("decode speed", [](Report& r) { r.speed.reset(); }),
            GateOutcome::kCannotTest);
  EXPECT_EQ(outcome_of("answer length",
                       [](Report& r) {
                         for (ItemResult& item : r.items)
                           item.tokens = 2;
                       }),
            GateOutcome::kFail);
}

TEST_F(GateTest, SpeedIsJudgedOnlyWhereTheRoundsAreSure) {
  const Report reference = make_reference();
  Limits limits;
  limits.min_speed_ratio = 0.85;
  const auto outcome = [&](const std::vector<double>& rounds, OtherCpu other, const char* cpu) {
    Report result = reference;
    result.speed->decode = rounds;
    result.identity.cpu = cpu;
    limits.other_cpu = other;
    return row(gate(result, reference, limits), "decode speed").outcome;
  };
  const std::vector<double> slow(9, 2.0), fast(9, 3.0);
  EXPECT_EQ(outcome(slow, OtherCpu::kSkip, "cpu"), GateOutcome::kFail);
  EXPECT_EQ(outcome(slow, OtherCpu::kSkip, "other"), GateOutcome::kSkipped);
  EXPECT_EQ(outcome(slow, OtherCpu::kJudge, "other"), GateOutcome::kFail);
  EXPECT_EQ(outcome(fast, OtherCpu::kJudge, "other"), GateOutcome::kPass);
  // Below the limit, but some rounds were as fast as ever: neither passed nor failed.
  EXPECT_EQ(outcome({2, 2, 3.3, 2, 3.3, 2, 3.3, 2, 3.3}, OtherCpu::kRefuse, "cpu"),
            GateOutcome::kCannotTest);
  // Must be faster than the reference.
  limits.min_speed_ratio = 1.5;
  EXPECT_EQ(outcome(std::vector<double>(9, 4.0), OtherCpu::kRefuse, "cpu"), GateOutcome::kFail);
  EXPECT_EQ(outcome(std::vector<double>(9, 6.0), OtherCpu::kRefuse, "cpu"), GateOutcome::kPass);
}

TEST_F(GateTest, BytesMayBeLimitedAsAMultiple) {
  const Report reference = make_reference();
  Report result = reference;
  Limits limits;
  limits.max_bytes_ratio = 1.1;
  result.weight_bytes = 2100;
  EXPECT_TRUE(gate(result, reference, limits).passed());
  result.weight_bytes = 2300;
  EXPECT_THAT(names(gate(result, reference, limits), GateOutcome::kFail),
              testing::ElementsAre("weight bytes"));
  result.weight_bytes = 0;  // unknown
  EXPECT_THAT(names(gate(result, reference, limits), GateOutcome::kCannotTest),
              testing::ElementsAre("weight bytes"));
}

TEST_F(GateTest, AnIntervalMustExcludeZero) {
  const Report reference = make_reference();
  Limits limits;
  limits.max_category_loss = 0.02;
  limits.max_margin_drop = 0.05;
  // A category of 500 loses 15: 3 points of it.
  Report result = reference;
  lose(result, 15);  // items 8, 20, ...: all of them about colour
  EXPECT_THAT(names(gate(result, reference, limits), GateOutcome::kFail),
              testing::ElementsAre("accuracy loss, colour"));
  // Every right option leads by a little less: nothing is lost, and it is beyond doubt.
  result = reference;
  for (ItemResult& item : result.items)
    *item.margin -= 0.06;
  EXPECT_THAT(names(gate(result, reference, limits), GateOutcome::kFail),
              testing::ElementsAre("margin drop"));
  // A rise is none, and a drop by chance cannot be told from none.
  for (std::size_t i = 0; i < result.items.size(); ++i)
    result.items[i].margin = *reference.items[i].margin + 0.06;
  EXPECT_TRUE(gate(result, reference, limits).passed());
  for (std::size_t i = 0; i < result.items.size(); ++i)
    result.items[i].margin = *reference.items[i].margin + (i % 4 < 2 ? 4.0 : -4.2);
  const Verdict verdict = gate(result, reference, limits);
  EXPECT_THAT(names(verdict, GateOutcome::kCannotTest), testing::ElementsAre("margin drop"));
  EXPECT_THAT(row(verdict, "margin drop").why, HasSubstr("show a change from"));
}

TEST_F(GateTest, FewOrOtherItemsAreNotEnough) {
  Report reference = make_reference();
  Limits limits;
  limits.max_option_kl = 0.001;
  limits.max_margin_drop = 0.05;
  Report result = reference;
  result.items[5].options = {"red", "green"};
  result.items[6].margin.reset();
  const Verdict verdict = gate(result, reference, limits);
  EXPECT_THAT(names(verdict, GateOutcome::kCannotTest),
              testing::ElementsAre("option KL", "margin drop"));
  EXPECT_THAT(row(verdict, "option KL").why, HasSubstr("only 1999 of 2000 items"));
  reference.items.resize(58);  // 29 images
  EXPECT_THAT(row(gate(reference, reference, limits), "option KL").why,
              HasSubstr("30 images or more, got 29"));
  limits = {.max_changed_answers = 0.01};
  EXPECT_FALSE(gate(reference, reference, limits).passed());
  limits.max_changed_answers = 0.0;
  EXPECT_TRUE(gate(reference, reference, limits).passed());
  result = reference;
  result.items[0].prediction = "other";
  EXPECT_TRUE(gate(result, reference, limits).failed());
}

TEST_F(GateTest, LogitsAreThoseOfTheRun) {
  const TemporaryFolder folder;
  Report reference = make_reference();
  reference.items.resize(100);
  constexpr std::size_t kVocab = 5;
  Random random(7);
  std::vector<float> values(reference.items.size() * kVocab);
  for (float& value : values)
    value = static_cast<float>(random.uniform());
  const auto keep_logits = [&](Report& report, const char* name) {
    report.logits_file = folder.path() / name;
    LogitsWriter writer(report.logits_file);
    for (std::size_t i = 0; i < report.items.size(); ++i)
      writer.write_row(static_cast<std::int64_t>(i), std::span(values).subspan(i * kVocab, kVocab));
    writer.commit(std::ssize(report.items), kVocab);
    report.logits_sha256 = sha256_file(report.logits_file);
  };
  keep_logits(reference, "reference.safetensors");
  Limits limits;
  limits.max_logit_kl = 0.01;
  const auto judge = [&](const Report& result) {
    return row(gate(result, reference, limits), "logit KL");
  };
  Report result = reference;
  for (float& value : values)
    value += 0.001F * static_cast<float>(random.uniform());
  keep_logits(result, "result.safetensors");
  EXPECT_EQ(judge(result).outcome, GateOutcome::kPass);
  EXPECT_GT(*judge(result).change, 0.0);
  for (std::size_t i = 0; i < values.size(); i += kVocab)
    values[i] += 1.0F;
  keep_logits(result, "result.safetensors");
  EXPECT_EQ(judge(result).outcome, GateOutcome::kFail);
  EXPECT_NEAR(*judge(result).change, *compare(result, reference).kl_mean, 1e-12);
  // The reference's file is overwritten by the result's run: the two would be equal.
  keep_logits(result, "reference.safetensors");
  EXPECT_EQ(judge(result).outcome, GateOutcome::kCannotTest);
  EXPECT_THAT(judge(result).why, HasSubstr("replaced by another run"));
  EXPECT_THROW(compare(result, reference), Error);
  std::filesystem::remove(reference.logits_file);
  EXPECT_THAT(judge(result).why, HasSubstr("is not there"));
  limits = {.max_changed_answers = 0.0};
  EXPECT_TRUE(gate(result, reference, limits).passed());
}

TEST_F(GateTest, OtherDataIsAnErrorAndAnotherModelANote) {
  const Report reference = make_reference();
  Report result = reference;
  result.identity.model_sha256 = "m1";
  result.identity.cpu_level = "scalar";
  const Verdict verdict = gate(result, reference, all_limits());
  EXPECT_THAT(verdict.notes, testing::ElementsAre(HasSubstr("model"), HasSubstr("avx2 -> scalar")));
  result.identity.data_sha256 = "d1";
  EXPECT_THROW(gate(result, reference, all_limits()), Error);
  result = reference;
  result.items.pop_back();
  EXPECT_THROW(gate(result, reference, all_limits()), Error);
}

TEST(Limits, AreReadStrictly) {
  const TemporaryFolder folder;
  const auto load = [&](const std::string& text) {
    return Limits::load(write_file(folder.path() / "l.yaml", text));
  };
  const Limits limits = load("max_accuracy_loss: 0.005\nexact_bytes: true\nother_cpu: skip\n");
  EXPECT_EQ(limits.max_accuracy_loss, 0.005);
  EXPECT_TRUE(limits.exact_bytes);
  EXPECT_EQ(limits.other_cpu, OtherCpu::kSkip);
  EXPECT_EQ(limits.max_option_kl, std::nullopt);
  const auto refuses = [&](const std::string& text, const std::string& why) {
    try {
      load(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  };
  refuses("max_accuracy_los: 0.005\n", "l.yaml:1: unknown key 'max_accuracy_los'");
  refuses("max_accuracy_loss: 5\n", "expected 0 to 1, got 5");
  refuses("max_memory_ratio: much\n", "wrong type");
  refuses("other_cpu: skip\n", "no limit");
  refuses("", "mapping");
}

}  // namespace
}  // namespace qvlm
