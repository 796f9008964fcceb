// A search that is stopped or killed at any moment goes on with --resume and gives the bytes of one
// that was left alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/random.h"
#include "cli/process.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kRecipe = R"(name: search
default:
  weight: {bits: 4, granularity: group, group_size: 64}
  activation: {bits: 4, granularity: token}
overrides:
  - {match: "vision_tower\\..*|projector\\..*|lm_head", keep: float}
calibration: {samples: 2, seed: 3}
plan: {strategy: entropy, max_depth: 2, budget_share: 0.3}
search: {activation_clip: [1, 0.85]}
)";

#if defined(__SANITIZE_ADDRESS__)  // each run takes many times as long
constexpr int kKills = 5;
#else
constexpr int kKills = 20;
#endif

class ResumeTest : public testing::Test {
 protected:
  ResumeTest() {
    const fs::path images = fs::path(QVLM_TESTS_DIR) / "data" / "llava" / "images";
    std::ofstream data(path("data.jsonl"));
    for (const char* question : {"what shape is in the image?", "is there a circle?"}) {
      for (const char* image : {"a.png", "b.png"}) {
        fs::copy_file(images / image, folder_.path() / image, fs::copy_options::skip_existing);
        data << R"({"image": ")" << image << R"(", "question": ")" << question
             << R"(", "answer": "circle"})"
             << "\n";
      }
    }
    std::ofstream(path("r.yaml")) << kRecipe;
  }

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::vector<std::string> quantize(const std::string& out, bool resume) const {
    std::vector<std::string> words = {
        "quantize",        std::string(QVLM_SOURCE_DIR) + "/models/reference-llava",
        path(out),         "--recipe",
        path("r.yaml"),    "--data",
        path("data.jsonl")};
    if (resume) words.emplace_back("--resume");
    return words;
  }
  void expect_same_folder(const std::string& out, const std::string& want) const {
    int files = 0;
    for (const auto& entry : fs::directory_iterator(path(want))) {
      const std::string name = entry.path().filename().string();
      EXPECT_TRUE(read_text_file(entry.path()) == read_text_file(fs::path(path(out)) / name))
          << name;
      ++files;
    }
    EXPECT_GE(files, 5);
    EXPECT_FALSE(fs::exists(path(out + ".search.json")));
    EXPECT_FALSE(fs::exists(path(out + ".part")));
  }

  TemporaryFolder folder_;
};

TEST_F(ResumeTest, TwentyKillsChangeNoByte) {
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run_qvlm(quantize("whole", false)).exit_code, 0);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Random random(1);
  int killed = 0;
  // A run that was quicker than its killer is whole; the next one begins anew.
  for (int tries = 0; tries < 4 * kKills && killed < kKills; ++tries) {
    const int code = kill_qvlm(quantize("out", true), 0.9 * random.uniform() * seconds).exit_code;
    ASSERT_TRUE(code == 0 || code == 128 + 9) << code;
    killed += code == 0 ? 0 : 1;
    if (code != 0 && killed % 5 != 0) continue;
    const ProcessResult last = run_qvlm(quantize("out", true));
    ASSERT_EQ(last.exit_code, 0) << last.err;
    expect_same_folder("out", "whole");
    fs::remove_all(path("out"));
  }
  EXPECT_EQ(killed, kKills);
}

TEST_F(ResumeTest, AnInterruptedSearchEndsAfterItsBlockAndSaysHowToGoOn) {
  ASSERT_EQ(run_qvlm(quantize("whole", false)).exit_code, 0);
  const std::string journal = path("out.search.json");
  const auto has_block = [&](const std::string&) {
    return fs::exists(journal) && read_text_file(journal).find("\"settings\"") != std::string::npos;
  };
  const InterruptedProcess stopped = interrupt_qvlm(quantize("out", false), has_block);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("--resume"));
  EXPECT_FALSE(fs::exists(path("out")));
  // Without a word about what to do with the finished blocks nothing is thrown away.
  const ProcessResult refused = run_qvlm(quantize("out", false));
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("out.search.json"));
  const ProcessResult resumed = run_qvlm(quantize("out", true));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  expect_same_folder("out", "whole");
}

TEST_F(ResumeTest, AnotherRunIsNotResumed) {
  const auto begun = [&](const std::string&) { return fs::exists(path("out.search.json")); };
  EXPECT_EQ(interrupt_qvlm(quantize("out", false), begun).exit_code, 75);
  std::ofstream(path("r.yaml"), std::ios::app) << "description: another\n";  // changes nothing
  std::ofstream(path("data.jsonl"), std::ios::app)
      << R"({"image": null, "question": "what?", "answer": "no"})"
      << "\n";
  const ProcessResult other = run_qvlm(quantize("out", true));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("another model, recipe, data"));
}

}  // namespace
}  // namespace qvlm
