// Tables, numbers and progress as text.
#include <gtest/gtest.h>

#include "cli/format.h"
#include "cli/progress.h"
#include "cli/table.h"

namespace qvlm::cli {
namespace {

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(999949), "999.9 kB");
  EXPECT_EQ(format_bytes(999950), "1.0 MB");
  EXPECT_EQ(format_bytes(19849216), "19.8 MB");
  EXPECT_EQ(format_bytes(13476839424), "13.5 GB");
}

TEST(Format, Counts) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1 000");
  EXPECT_EQ(format_count(-1234567), "-1 234 567");
  EXPECT_EQ(format_count(-123), "-123");
}

TEST(Format, Seconds) {
  EXPECT_EQ(format_seconds(0.4), "0.40 s");
  EXPECT_EQ(format_seconds(9.999), "10.0 s");
  EXPECT_EQ(format_seconds(59.99), "1 min 00 s");
  EXPECT_EQ(format_seconds(185), "3 min 05 s");
  EXPECT_EQ(format_seconds(7620), "2 h 07 min");
}

TEST(Format, SharesAndSmallNumbers) {
  EXPECT_EQ(format_percent(0.9844), "98.4 %");
  EXPECT_EQ(format_accuracy({1, 2, 0.5, 0.095, 0.905}), "50.0 % [9.5, 90.5]");
  EXPECT_EQ(format_small(std::nullopt), "-");
  EXPECT_EQ(format_small(4.5612e-7), "4.56e-07");
  EXPECT_EQ(format_signed(-0.12345), "-0.123");
  EXPECT_EQ(format_p(0.0004), "< 0.001");
  EXPECT_EQ(format_p(1.0), "1.000");
}

TEST(Table, AlignsAndRules) {
  Table table({{"name", Table::Align::kLeft}, {"value"}});
  table.add_row({"a", "1"});
  table.add_rule();
  table.add_row({"caf\xC3\xA9", "12345678"});  // four characters in five bytes
  EXPECT_EQ(table.text(),
            "name     value\n"
            "----  --------\n"
            "a            1\n"
            "----  --------\n"
            "caf\xC3\xA9  12345678\n");
  EXPECT_EQ(table.markdown(),
            "| name | value |\n"
            "| --- | ---: |\n"
            "| a | 1 |\n"
            "| caf\xC3\xA9 | 12345678 |\n");
}

TEST(Progress, SaysWhatIsLeft) {
  EXPECT_EQ(describe_progress({30, 120, "questions"}, 10.0),
            "questions 30/120, 25 %, about 30.0 s left");
  EXPECT_EQ(describe_progress({0, 4, "layer"}, 3.0), "layer 0/4, 0 %");
  EXPECT_EQ(describe_progress({4, 4, "layer"}, 3.0), "layer 4/4, 100 %");
  EXPECT_EQ(describe_progress({0, 0, ""}, 3.0), "0/0");
}

TEST(Progress, ShortWorkIsSilent) {
  ::testing::internal::CaptureStderr();
  {
    ProgressLine line(false);
    for (int i = 0; i <= 100; ++i)
      line.update({i, 100, "steps"});
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace qvlm::cli
