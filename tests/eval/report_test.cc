#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>
#include <qvlm/evaluate.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "eval/logits_file.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

using ::testing::HasSubstr;

Report example() {
  Report report;
  report.model = "models/m";
  report.execution = "packed";
  report.data = "data/d";
  report.protocol = "exact";
  report.max_new_tokens = 8;
  report.items = {{"1", "colour", "red", "red", true, 2.5},
                  {"2", "colour", "blue", "red \"\xC3\xA9\"\n", false, -1.0},
                  {"3", "shape", "circle", "circle", true, std::nullopt}};
  report.items[0].tokens = 2;
  report.items[0].images = {"images/1.png", "images/2.png"};
  report.items[0].options = {"blue", "red"};
  report.items[0].option_logits = {0.1F, 2.6000001F};
  report.items[2].options = {"circle"};
  report.items[2].option_logits = {std::nanf("")};
  report.identity = {"0a", "0b", "qvlm 0", "a CPU", "avx2", 3};
  report.speed = SpeedReport{{1.5, 2.0}, {3.25}};
  report.weight_bytes = 13;
  report.kv_bytes = 14;
  report.checkpoint_bytes = 12345678901;
  report.load_seconds = 0.25;
  report.seconds = 1.5;
  report.peak_memory_bytes = 1 << 30;
  return report;
}

void write_logits(const std::filesystem::path& file, const std::vector<std::vector<float>>& rows) {
  LogitsWriter writer(file);
  for (std::size_t i = rows.size(); i-- > 0;)
    writer.write_row(static_cast<std::int64_t>(i), rows[i]);
  writer.commit(static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size()));
}

template <typename Function>
std::string error_of(ErrorKind kind, Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Report, RoundTrip) {
  const TemporaryFolder folder;
  const Report before = example();
  before.save(folder.path() / "r.json");
  const Report after = Report::load(folder.path() / "r.json");
  EXPECT_EQ(after.model, before.model);
  EXPECT_EQ(after.execution, before.execution);
  EXPECT_EQ(after.data, before.data);
  EXPECT_EQ(after.protocol, before.protocol);
  EXPECT_EQ(after.max_new_tokens, before.max_new_tokens);
  EXPECT_EQ(after.checkpoint_bytes, before.checkpoint_bytes);
  EXPECT_EQ(after.load_seconds, before.load_seconds);
  EXPECT_EQ(after.seconds, before.seconds);
  EXPECT_EQ(after.peak_memory_bytes, before.peak_memory_bytes);
  EXPECT_TRUE(after.logits_file.empty());
  EXPECT_EQ(after.weight_bytes, 13);
  EXPECT_EQ(after.kv_bytes, 14);
  EXPECT_EQ(after.identity.model_sha256, "0a");
  EXPECT_EQ(after.identity.data_sha256, "0b");
  EXPECT_EQ(after.identity.cpu, "a CPU");
  EXPECT_EQ(after.identity.threads, 3);
  EXPECT_EQ(after.speed->prefill, before.speed->prefill);
  EXPECT_EQ(after.speed->decode, before.speed->decode);
  EXPECT_EQ(after.items[0].option_logits, before.items[0].option_logits);  // the same bits
  EXPECT_TRUE(std::isnan(after.items[2].option_logits[0]));
  ASSERT_EQ(after.items.size(), before.items.size());
  for (std::size_t i = 0; i < before.items.size(); ++i) {
    EXPECT_EQ(after.items[i].id, before.items[i].id);
    EXPECT_EQ(after.items[i].prediction, before.items[i].prediction);
    EXPECT_EQ(after.items[i].correct, before.items[i].correct);
    EXPECT_EQ(after.items[i].margin, before.items[i].margin);
    EXPECT_EQ(after.items[i].tokens, before.items[i].tokens);
    EXPECT_EQ(after.items[i].images, before.items[i].images);
    EXPECT_EQ(after.items[i].options, before.items[i].options);
  }
}

TEST(Report, CountsByCategory) {
  const Report report = example();
  EXPECT_EQ(report.accuracy().count, 2);
  EXPECT_EQ(report.accuracy().total, 3);
  const auto categories = report.accuracy_by_category();
  ASSERT_EQ(categories.size(), 2U);
  EXPECT_EQ(categories[0].first, "colour");
  EXPECT_EQ(categories[0].second.count, 1);
  EXPECT_EQ(categories[1].second.total, 1);
}

TEST(Report, RefusesDamage) {
  const TemporaryFolder folder;
  error_of(ErrorKind::kNotFound, [&] { Report::load(folder.path() / "none.json"); });
  write_file(folder.path() / "half.json", R"({"format": "qvlm-report-2", "model": )");
  error_of(ErrorKind::kCorrupt, [&] { Report::load(folder.path() / "half.json"); });
  write_file(folder.path() / "other.json", R"({"format": "something"})");
  EXPECT_THAT(error_of(ErrorKind::kCorrupt, [&] { Report::load(folder.path() / "other.json"); }),
              HasSubstr("expected qvlm-report-2, got something"));
  Report twice = example();
  twice.items[2].id = "1";
  twice.save(folder.path() / "twice.json");
  EXPECT_THAT(error_of(ErrorKind::kCorrupt, [&] { Report::load(folder.path() / "twice.json"); }),
              HasSubstr("'1'"));
}

TEST(Report, MovesTogetherWithItsLogits) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "here");
  Report report = example();
  report.logits_file = folder.path() / "here/r.logits.safetensors";
  write_logits(report.logits_file, {{1, 2}, {3, 4}, {5, 6}});
  report.save(folder.path() / "here/r.json");
  std::filesystem::rename(folder.path() / "here", folder.path() / "there");
  EXPECT_EQ(Report::load(folder.path() / "there/r.json").logits_file,
            folder.path() / "there/r.logits.safetensors");
}

TEST(LogitsFile, RowsInAnyOrderAndNothingLeftOver) {
  const TemporaryFolder folder;
  write_logits(folder.path() / "l.safetensors", {{1, 2, 3}, {4, 5, 6}});
  const LogitsFile file(folder.path() / "l.safetensors");
  EXPECT_EQ(file.rows(), 2);
  EXPECT_EQ(file.vocab(), 3);
  EXPECT_THAT(file.row(1), ::testing::ElementsAre(4, 5, 6));
  { LogitsWriter unfinished(folder.path() / "other.safetensors"); }
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++files;
  EXPECT_EQ(files, 1);
  error_of(ErrorKind::kIo, [&] { LogitsWriter refused("/proc/none/l.safetensors"); });
}

TEST(LogitsFile, KeepsItsNeighbours) {
  const TemporaryFolder folder;
  write_file(folder.path() / "l.safetensors.rows", "precious");
  write_logits(folder.path() / "l.safetensors", {{1, 2}});
  std::ifstream rows(folder.path() / "l.safetensors.rows");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(rows), {}), "precious");
  error_of(ErrorKind::kIo, [&] { LogitsWriter refused(folder.path()); });
}

TEST(Compare, RefusesOtherSettings) {
  const Report reference = example();
  Report scored = example(), longer = example();
  scored.protocol = "sqa-lmms";
  longer.max_new_tokens = 16;
  EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { compare(scored, reference); }),
              HasSubstr("different protocols"));
  EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { compare(longer, reference); }),
              HasSubstr("max_new_tokens 16"));
}

TEST(Compare, CountsFlipsAndMargins) {
  const Report reference = example();
  Report result = example();
  result.items[0] = {"1", "colour", "red", "Blue", false, 0.5};   // lost
  result.items[1] = {"2", "colour", "blue", "blue.", true, 1.0};  // won
  std::swap(result.items[0], result.items[2]);                    // order does not matter
  const Comparison comparison = compare(result, reference);
  EXPECT_EQ(comparison.lost, 1);
  EXPECT_EQ(comparison.won, 1);
  EXPECT_EQ(comparison.agreement.count, 1);
  EXPECT_EQ(comparison.mcnemar_p, 1.0);
  EXPECT_EQ(comparison.margin_change, 0.0);  // (0.5 - 2.5 + 1.0 - -1.0) / 2; the third has none
  EXPECT_FALSE(comparison.kl_mean);
}

TEST(Compare, DivergenceByItem) {
  const TemporaryFolder folder;
  Report reference = example(), result = example();
  reference.logits_file = folder.path() / "a.safetensors";
  result.logits_file = folder.path() / "b.safetensors";
  write_logits(reference.logits_file, {{0, 0}, {0, 0}, {1, 2}});
  write_logits(result.logits_file, {{0, std::log(3.0F)}, {0, 0}, {3, 4}});
  const Comparison comparison = compare(result, reference);
  const double first = 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0);
  EXPECT_NEAR(*comparison.kl_mean, first / 3, 1e-7);  // log 3 is rounded to float
  EXPECT_EQ(*comparison.kl_median, 0.0);
  EXPECT_NEAR(*comparison.kl_trimmed_mean, first / 3, 1e-7);
  write_logits(result.logits_file, {{0, 0}});
  EXPECT_THAT(error_of(ErrorKind::kCorrupt, [&] { compare(result, reference); }),
              HasSubstr("expected 3 rows"));
  std::filesystem::remove(result.logits_file);
  error_of(ErrorKind::kNotFound, [&] { compare(result, reference); });
}

TEST(Compare, RefusesOtherItems) {
  const Report reference = example();
  Report fewer = example(), other = example(), changed = example();
  fewer.items.pop_back();
  other.items[1].id = "x";
  changed.items[1].answer = "green";
  for (const Report& report : {fewer, other, changed}) {
    EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { compare(report, reference); }),
                HasSubstr("did not run the same items"));
  }
}

}  // namespace
}  // namespace qvlm
