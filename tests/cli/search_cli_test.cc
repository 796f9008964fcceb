// analyze, and quantize with a search, as processes.
#include "cli/cli_fixture.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kSearch =
    "name: searching\n"
    "default:\n  weight: {bits: 4, granularity: channel}\n"
    "  activation: {bits: 4, granularity: token}\n"
    "overrides:\n  - {match: \"vision_tower.*|projector.*|lm_head\", keep: float}\n"
    "calibration: {samples: 2}\n"
    "plan: {max_depth: 2}\n"
    "search: {activation_clip: [1, 0.9]}\n";

class SearchCliTest : public CliTest {
 protected:
  SearchCliTest() {
    write_file(path("search.yaml"), kSearch);
    make_tiny_data(path("data"));
    write_file(path("data/data.jsonl"),
               "{\"image\": \"images/a.png\", \"question\": \"colour?\", \"answer\": \"red\"}\n"
               "{\"image\": null, \"question\": \"round?\", \"answer\": \"ball\"}\n");
  }
};

TEST_F(SearchCliTest, AnalyzeWritesItsReport) {
  const std::string table =
      succeed({"analyze", path("model"), "--data", path("data"), "--recipe", path("search.yaml"),
               "--joint-gains", "--report", path("report")});
  EXPECT_THAT(table,
              AllOf(HasSubstr("decoder.layers.1"), HasSubstr("oracle"), HasSubstr("index.html")));
  EXPECT_EQ(entries(path("report")),
            (std::set<std::string>{"analysis.json", "index.html", "statistics.safetensors"}));
  EXPECT_THAT(read_text_file(path("report/index.html")), HasSubstr("<svg"));
  const Json analysis = Json::load(path("report/analysis.json"));
  EXPECT_EQ(analysis.get("plans").size(), 6U);
  const Json gain = analysis.get("joint_gains").at(0);
  EXPECT_LE(gain.get("joint_error").at(1).as_double(), gain.get("greedy_error").at(1).as_double());
  EXPECT_THAT(
      fail(2, {"analyze", path("model"), "--data", path("data"), "--recipe", path("w8.yaml")}),
      HasSubstr("'search'"));
}

TEST_F(SearchCliTest, TheCheckpointTellsWhatWasSearched) {
  EXPECT_THAT(fail(2, {"quantize", path("model"), path("out"), "--recipe", path("search.yaml")}),
              HasSubstr("--data"));
  const std::string table =
      succeed({"quantize", path("model"), path("out"), "--recipe", path("search.yaml"), "--data",
               path("data"), "--report", path("q.json")});
  EXPECT_THAT(table, AllOf(HasSubstr("layer-forwards planned"), HasSubstr("winners")));
  EXPECT_THAT(succeed({"inspect", path("out")}),
              AllOf(HasSubstr("layer-forwards planned"), HasSubstr("winners")));
  const Json inspected = succeed_json({"inspect", path("out")});
  const Json report = Json::load(path("q.json"));
  EXPECT_EQ(inspected.get("search").get("blocks").dump(),
            report.get("search").get("blocks").dump());
  succeed({"verify", path("out"), "--against", path("model"), "--quiet"});
}

TEST_F(SearchCliTest, BadCalibrationData) {
  write_file(path("data/data.jsonl"),
             "{\"image\": \"images/c.png\", \"question\": \"?\", "
             "\"answer\": \"red\"}\n");
  EXPECT_THAT(fail(3, {"quantize", path("model"), path("out"), "--recipe", path("search.yaml"),
                       "--data", path("data")}),
              AllOf(HasSubstr("data.jsonl:1"), HasSubstr("c.png")));
}

}  // namespace
}  // namespace qvlm
