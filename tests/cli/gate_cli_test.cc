// qvlm gate as a process: what it prints, writes and exits with.
#include "cli/cli_fixture.h"

#include "base/mapped_file.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class GateCliTest : public CliTest {
 protected:
  GateCliTest() {
    make_tiny_data(path("data"));
    write_file(path("loose.yaml"), "max_changed_answers: 1\nmax_memory_ratio: 100\n");
    write_file(path("strict.yaml"), "exact_bytes: true\n");
    write_file(path("fine.yaml"), "max_accuracy_loss: 0.01\n");
  }

  void evaluate(const std::string& model, const std::string& report) {
    succeed(
        {"evaluate", path(model), "--data", path("data"), "--report", path(report), "--no-speed"});
  }
  std::vector<std::string> gate(const std::string& limits) const {
    return {"gate", path("w8.json"), "--against", path("float.json"), "--limits", path(limits)};
  }
};

TEST_F(GateCliTest, PassesFailsAndRefuses) {
  succeed({"quantize", path("model"), path("w8"), "--recipe", path("w8.yaml")});
  evaluate("model", "float.json");
  evaluate("w8", "w8.json");

  EXPECT_THAT(succeed(gate("loose.yaml")),
              AllOf(HasSubstr("changed answers"), HasSubstr("passed\n")));

  std::vector<std::string> strict = gate("strict.yaml");
  strict.insert(strict.end(), {"--junit", path("j.xml"), "--markdown", path("m.md")});
  const ProcessResult failed = run_qvlm(strict);
  EXPECT_EQ(failed.exit_code, 5);
  EXPECT_THAT(failed.out, AllOf(HasSubstr("FAIL  checkpoint bytes: must be exactly"),
                                HasSubstr("note  the model's files")));
  EXPECT_THAT(failed.err,
              AllOf(HasSubstr("gate failed: checkpoint bytes"), Not(HasSubstr("error:"))));
  const std::string junit = read_text_file(path("j.xml"));
  // Checkpoint and weights differ, a position in the KV cache does not.
  EXPECT_THAT(junit, AllOf(HasSubstr("tests=\"3\" failures=\"2\" errors=\"0\""),
                           HasSubstr("<failure message=\"must be exactly")));
  EXPECT_THAT(read_text_file(path("m.md")), HasSubstr("### qvlm gate: failed: checkpoint bytes"));

  const ProcessResult refused = run_qvlm(gate("fine.yaml"));  // seven items
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("fine.yaml: cannot be tested: accuracy loss"));

  std::vector<std::string> json = gate("strict.yaml");
  json.push_back("--json");
  const Json verdict = Json::parse(run_qvlm(json).out, "gate");
  EXPECT_FALSE(verdict.get_bool("passed"));
  EXPECT_EQ(verdict.get("rows").at(0).get_string("what"), "accuracy loss");
}

TEST_F(GateCliTest, BadInputIsOneSentence) {
  evaluate("model", "float.json");
  fail(3, {"gate", path("none.json"), "--against", path("float.json"), "--limits",
           path("loose.yaml")});
  write_file(path("empty.yaml"), "other_cpu: skip\n");
  const std::vector<std::string> same = {"gate", path("float.json"), "--against",
                                         path("float.json")};
  std::vector<std::string> empty = same;
  empty.insert(empty.end(), {"--limits", path("empty.yaml")});
  EXPECT_THAT(fail(2, empty), HasSubstr("empty.yaml: has no limit"));
  std::vector<std::string> nowhere = same;
  nowhere.insert(nowhere.end(), {"--limits", path("loose.yaml"), "--junit", path("none/j.xml")});
  fail(3, nowhere);
}

TEST_F(GateCliTest, OutputsAreThoseOfThisRun) {
  evaluate("model", "float.json");
  std::vector<std::string> arguments = {
      "gate",     path("none.json"),  "--against", path("float.json"),
      "--limits", path("loose.yaml"), "--junit"};
  write_file(path("old.xml"), "<testsuites/>");
  std::vector<std::string> broken = arguments;
  broken.push_back(path("old.xml"));
  EXPECT_EQ(run_qvlm(broken).exit_code, 3);
  EXPECT_FALSE(std::filesystem::exists(path("old.xml")));  // would pass for this run's
  arguments.push_back(path("float.json"));
  EXPECT_THAT(fail(2, arguments), HasSubstr("another file of this command"));
  EXPECT_TRUE(std::filesystem::exists(path("float.json")));
}

}  // namespace
}  // namespace qvlm
