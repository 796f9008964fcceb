// qvlm plan as a process: what it prints, that it fails as quantize does, and that it writes
// nothing.
#include "cli/cli_fixture.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kSearch =
    "name: searching\n"
    "default:\n  weight: {bits: 8, granularity: channel}\n"
    "  activation: {bits: 8, granularity: token}\n"
    "overrides:\n  - {match: \"vision_tower.*|projector.*|lm_head\", keep: float}\n"
    "calibration: {samples: 2}\n"
    "search: {activation_clip: [1, 0.9]}\n";

class PlanCliTest : public CliTest {
 protected:
  PlanCliTest() { write_file(path("search.yaml"), kSearch); }

  std::vector<std::string> plan(const std::string& recipe,
                                const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"plan", path("model"), "--recipe", path(recipe)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // make_tiny_data() has an item without an answer to learn from.
  std::string data() const {
    make_tiny_data(path("data"));
    write_file(path("data/data.jsonl"),
               "{\"image\": \"images/a.png\", \"question\": \"colour?\", \"answer\": \"red\"}\n"
               "{\"image\": null, \"question\": \"round?\", \"answer\": \"ball\"}\n");
    return path("data");
  }
};

TEST_F(PlanCliTest, Table) {
  const std::set<std::string> before = entries(path("."));
  const std::string text = succeed(plan("w8.yaml"));
  EXPECT_THAT(text, AllOf(HasSubstr("decoder"), HasSubstr("w8 a8"), HasSubstr("default"),
                          HasSubstr("all tensors"), HasSubstr("memory"), HasSubstr("estimated")));
  EXPECT_THAT(text, Not(HasSubstr("decoder.layers.1.mlp.up_proj")));
  EXPECT_THAT(succeed(plan("w8.yaml", {"--linears"})), HasSubstr("decoder.layers.1.mlp.up_proj"));
  EXPECT_EQ(entries(path(".")), before);
}

TEST_F(PlanCliTest, RecipesThatSearch) {
  EXPECT_THAT(succeed(plan("search.yaml")),
              AllOf(HasSubstr("layer-forwards: 4 one layer at a time"), HasSubstr("6 in blocks"),
                    HasSubstr("note"), HasSubstr("calibration data")));
  const std::string text = succeed(plan("search.yaml", {"--data", data()}));
  EXPECT_THAT(text, AllOf(HasSubstr("drawn from 2 items"), HasSubstr("% image"),
                          HasSubstr("% text"), HasSubstr("% answer")));
}

TEST_F(PlanCliTest, Document) {
  const Json plain = succeed_json(plan("w8.yaml"));
  EXPECT_TRUE(plain.get("search").is_null());
  EXPECT_TRUE(plain.get("data").is_null());
  EXPECT_LT(plain.get_int("result_bytes"), plain.get_int("source_bytes"));
  EXPECT_EQ(plain.get("linears").at(0).get_string("rule"), "default");
  const Json searching = succeed_json(plan("search.yaml", {"--data", data()}));
  EXPECT_EQ(searching.get("data").get_int("samples"), 2);
  EXPECT_EQ(searching.get("search").get_double("most_forwards"), 6.0);
  EXPECT_GT(searching.get("memory").get_int("quantizing_bytes"), 0);
  EXPECT_EQ(searching.get("linears").at(0).get_string("scheme"), "float");
}

TEST_F(PlanCliTest, FailsAsQuantizeDoes) {
  write_file(path("key.yaml"), std::string(kW8) + "colour: red\n");
  EXPECT_EQ(fail(2, plan("key.yaml")), fail_to_quantize(2, "key.yaml"));
  write_file(path("match.yaml"), std::string(kW8) + "overrides:\n  - {match: x, keep: float}\n");
  EXPECT_EQ(fail(2, plan("match.yaml")), fail_to_quantize(2, "match.yaml"));
  write_file(path("bad.jsonl"), "{\"image\": null, \"question\": \"?\", \"answer\": \"\"}\n");
  EXPECT_THAT(fail(3, plan("search.yaml", {"--data", path("bad.jsonl")})),
              AllOf(HasSubstr("bad.jsonl:1"), HasSubstr("answer")));
  write_file(path("out/precious.txt"), "data");
  EXPECT_THAT(fail(2, {"plan", path("model"), path("out"), "--recipe", path("w8.yaml")}),
              HasSubstr(path("out")));
  EXPECT_THAT(fail(2, {"plan", path("model")}), HasSubstr("qvlm plan --help"));
  const std::string quantized = path("quantized");
  succeed({"quantize", path("model"), quantized, "--recipe", path("w8.yaml")});
  EXPECT_THAT(fail(4, {"plan", quantized, "--recipe", path("w8.yaml")}),
              HasSubstr("is quantized already"));
}

TEST_F(PlanCliTest, Help) {
  EXPECT_THAT(succeed({"plan", "--help"}),
              AllOf(HasSubstr("example:\n  qvlm plan "), HasSubstr("exit codes: 0 done")));
  EXPECT_THAT(fail(2, {}), HasSubstr("plan"));
}

}  // namespace
}  // namespace qvlm
