// `qvlm verify` as a process: what it prints of whole and of damaged folders, and its exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "cli/cli_fixture.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// --quiet everywhere: on a busy machine two seconds pass and progress would come to stderr.
class VerifyCliTest : public CliTest {
 protected:
  VerifyCliTest() : out_(path("out")) {
    succeed({"quantize", path("model"), out_, "--recipe", path("w8.yaml"), "--quiet"});
  }

  // Damages a tensor and a file.
  void damage() const {
    std::string bytes = read_text_file(out_ + "/model.safetensors");
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    write_file(out_ + "/model.safetensors", bytes);
    fs::remove(out_ + "/tokenizer.json");
  }

  std::string out_;
};

TEST_F(VerifyCliTest, ShowsWhatWasChecked) {
  EXPECT_THAT(succeed({"verify", out_, "--against", path("model"), "--quiet"}),
              AllOf(HasSubstr("checksums of files and tensors"), HasSubstr("forward passes"),
                    HasSubstr("against " + path("model")), HasSubstr("largest weight errors"),
                    HasSubstr("no problems")));
  const Json json = succeed_json({"verify", out_, "--no-run", "--quiet"});
  EXPECT_EQ(json.get("problems").size(), 0U);
  EXPECT_GT(json.get("checks").size(), 5U);
  EXPECT_EQ(json.get("linears").size(), 0U);
  // A folder of another program: said plainly, and no failure.
  EXPECT_THAT(succeed({"verify", path("model"), "--quiet"}),
              AllOf(HasSubstr("skipped: no qvlm.json"), HasSubstr("no problems")));
}

TEST_F(VerifyCliTest, ALinePerProblem) {
  damage();
  const ProcessResult text = run_qvlm({"verify", out_, "--quiet"});
  EXPECT_EQ(text.exit_code, 3);
  EXPECT_THAT(text.out, AllOf(StartsWith("model.safetensors: tensor '"),
                              HasSubstr("': does not match its checksum\n"),
                              HasSubstr("\ntokenizer.json: is missing\n"),
                              HasSubstr("skipped: the folder is damaged")));
  EXPECT_EQ(text.err, "qvlm: error: " + out_ + ": 2 problems were found\n");
}

TEST_F(VerifyCliTest, ProblemsAsJson) {
  damage();
  const ProcessResult result = run_qvlm({"verify", out_, "--json", "--quiet"});
  EXPECT_EQ(result.exit_code, 3);
  const Json problems = Json::parse(result.out, "stdout").get("problems");
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems.at(0).get_string("file"), "model.safetensors");
  EXPECT_THAT(problems.at(0).get_string("tensor"), Not(IsEmpty()));
  EXPECT_THAT(problems.at(0).get_string("problem"), HasSubstr("checksum"));
  EXPECT_EQ(problems.at(1).get_string("file"), "tokenizer.json");
  EXPECT_EQ(problems.at(1).get_string("tensor"), "");
}

TEST_F(VerifyCliTest, WrongArgumentsAreOneSentence) {
  make_tiny_model(path("other"), "hub_default");
  EXPECT_THAT(fail(2, {"verify", out_, "--against", path("other"), "--quiet"}),
              HasSubstr("is not the model"));
  EXPECT_THAT(fail(2, {"verify", out_, "--against", out_, "--quiet"}), HasSubstr("is quantized"));
  EXPECT_THAT(fail(3, {"verify", path("nowhere")}), HasSubstr(path("nowhere")));
}

}  // namespace
}  // namespace qvlm
