// Running the executable in a folder with a tiny model: what tests of verbs share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/process.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {

inline constexpr const char* kW8 =
    "name: w8\ndefault:\n  weight: {bits: 8, granularity: channel}\n"
    "  activation: {bits: 8, granularity: token}\n";

inline std::set<std::string> entries(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

// A folder with a tiny model and a recipe for it.
class CliTest : public ::testing::Test {
 protected:
  CliTest() {
    make_tiny_model(path("model"), "runtime_gqa");
    write_file(path("w8.yaml"), kW8);
  }

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string image() const { return std::string(QVLM_TESTS_DIR) + "/data/llava/images/a.png"; }

  // Runs a command that must fail: one sentence on stderr, nothing on stdout, and no new file in
  // the test's folder.
  std::string fail(int exit_code,
                   const std::vector<std::string>& arguments,
                   const std::map<std::string, std::string>& environment = {}) {
    const std::set<std::string> before = entries(folder_.path());
    const ProcessResult result = run_qvlm(arguments, environment);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_THAT(result.out, ::testing::IsEmpty());
    EXPECT_THAT(result.err, ::testing::StartsWith("qvlm: error: "));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(entries(folder_.path()), before);
    return result.err;
  }
  std::string fail_to_quantize(int exit_code,
                               const std::string& recipe = "w8.yaml",
                               const std::string& out = "") {
    return fail(exit_code, {"quantize", path("model"), out.empty() ? path("out") : out, "--recipe",
                            path(recipe)});
  }
  // Runs a command that must succeed without a word on stderr; returns stdout.
  std::string succeed(const std::vector<std::string>& arguments) {
    const ProcessResult result = run_qvlm(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, ::testing::IsEmpty());
    return result.out;
  }
  Json succeed_json(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    return Json::parse(succeed(arguments), "stdout of " + arguments[0]);
  }

  TemporaryFolder folder_;
};

}  // namespace qvlm
