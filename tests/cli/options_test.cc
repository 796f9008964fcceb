#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>

namespace qvlm::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::optional<CommandLine> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "qvlm");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

std::string usage_error(const std::vector<const char*>& arguments) {
  try {
    parse(arguments);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Options, Generate) {
  const auto line =
      parse({"generate",    "my model",  "--image",       "a b.png",   "--image", "c.png",
             "--prompt",    "why?",      "--temperature", "0.7",       "--top-k", "5",
             "--top-p",     "0.9",       "--seed",        "11",        "--stop",  "END",
             "--execution", "simulated", "--json",        "--threads", "2"});
  const auto& command = std::get<GenerateCommand>(line->command);
  EXPECT_EQ(command.model, "my model");
  EXPECT_THAT(command.images, ElementsAre("a b.png", "c.png"));
  EXPECT_EQ(command.prompt, "why?");
  EXPECT_EQ(command.options.temperature, 0.7);
  EXPECT_EQ(command.options.top_k, 5);
  EXPECT_EQ(command.options.top_p, 0.9);
  EXPECT_EQ(command.options.seed, 11U);
  EXPECT_THAT(command.options.stop, ElementsAre("END"));
  EXPECT_EQ(command.execution, Execution::kSimulated);
  EXPECT_TRUE(line->common.json);
  EXPECT_EQ(line->common.threads, 2);
}

TEST(Options, CommonOptionsMayStandInFront) {
  const auto line = parse({"--quiet", "report", "a.json", "b.json"});
  EXPECT_TRUE(line->common.quiet);
  EXPECT_THAT(std::get<ReportCommand>(line->command).files, ElementsAre("a.json", "b.json"));
}

TEST(Options, Defaults) {
  const auto line = parse({"evaluate", "m", "--data", "d"});
  const auto& command = std::get<EvaluateCommand>(line->command);
  EXPECT_EQ(command.items, 0);
  EXPECT_EQ(command.max_new_tokens, 8);
  EXPECT_EQ(command.execution, Execution::kPacked);
}

TEST(Options, MistakesAreNamed) {
  EXPECT_THAT(usage_error({"quantize", "m", "out"}), HasSubstr("--recipe"));
  EXPECT_THAT(usage_error({"quantize", "m", "out", "--scheme", "W4A4", "--recipe", "r.yaml"}),
              HasSubstr("--scheme"));
  EXPECT_THAT(usage_error({"quantize", "m", "out", "--recipe", "r.yaml", "--preset", "fast"}),
              HasSubstr("--preset excludes --recipe"));
  EXPECT_THAT(usage_error({"quantize", "m", "out", "--scheme", "W4A4", "--preset", "slow"}),
              HasSubstr("fast"));
  EXPECT_THAT(usage_error({"quantize", "m", "out"}), HasSubstr("qvlm quantize --help"));
  EXPECT_THAT(usage_error({"evaluate", "m", "--data", "d", "--items", "0"}), HasSubstr("--items"));
  EXPECT_THAT(usage_error({"bench", "m", "--execution", "fast"}), HasSubstr("fast"));
  EXPECT_THAT(usage_error({"inspect", "m", "--colour"}), HasSubstr("--colour"));
  EXPECT_THAT(usage_error({}), HasSubstr("qvlm --help"));
  EXPECT_THAT(usage_error({"inspect", ""}), HasSubstr("MODEL"));
}

TEST(Options, ATargetIsOneOfFour) {
  const std::vector<const char*> base = {"quantize", "m", "out", "--scheme", "W4A4"};
  const auto with = [&](std::vector<const char*> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return more;
  };
  const auto target = [&](const std::vector<const char*>& more) {
    const auto line = parse(with(more));
    return *std::get<QuantizeCommand>(line->command).recipe.target;
  };
  using Kind = PrecisionTarget::Kind;
  EXPECT_EQ(target({"--target-bpw", "4.5"}).kind, Kind::kBitsPerWeight);
  EXPECT_EQ(target({"--target-bpw", "4.5"}).value, 4.5);
  EXPECT_EQ(target({"--max-kl", "1e-3"}).kind, Kind::kDivergence);
  EXPECT_EQ(target({"--max-kl", "1e-3"}).value, 1e-3);
  EXPECT_EQ(target({"--target-activation-bits", "4.5"}).kind, Kind::kActivationBits);
  EXPECT_EQ(target({"--target-activation-bits", "4.5"}).value, 4.5);
  EXPECT_THAT(usage_error(with({"--target-activation-bits", "32"})), HasSubstr("1 to 16"));
  EXPECT_THAT(usage_error(with({"--target-activation-bits", "5", "--target-bpw", "5"})),
              HasSubstr("excludes"));
  EXPECT_EQ(target({"--target-size", "4.2GB"}).kind, Kind::kBytes);
  EXPECT_EQ(target({"--target-size", "4.2GB"}).value, 4.2e9);
  EXPECT_EQ(target({"--target-size", "7 mb"}).value, 7e6);
  EXPECT_EQ(target({"--target-size", "8600000"}).value, 8.6e6);
  EXPECT_THAT(usage_error(with({"--target-size", "4.2 houses"})), HasSubstr("--target-size"));
  EXPECT_THAT(usage_error(with({"--target-size", "-1"})), HasSubstr("--target-size"));
  EXPECT_THAT(usage_error(with({"--target-bpw", "0"})), HasSubstr("--target-bpw"));
  EXPECT_THAT(usage_error(with({"--target-bpw", "nan"})), HasSubstr("--target-bpw"));
  EXPECT_THAT(usage_error(with({"--target-bpw", "5", "--max-kl", "1"})), HasSubstr("excludes"));
  EXPECT_THAT(usage_error({"quantize", "m", "out", "--recipe", "r.yaml", "--max-kl", "1"}),
              HasSubstr("excludes --recipe"));
}

TEST(Options, SamplingIsChecked) {
  for (const auto& [option, value] : {std::pair{"--seed", "-1"},
                                      {"--seed", "1.5"},
                                      {"--temperature", "-0.1"},
                                      {"--temperature", "nan"},
                                      {"--top-k", "-2"},
                                      {"--top-p", "0"},
                                      {"--top-p", "1.01"},
                                      {"--top-p", "nan"}}) {
    EXPECT_THAT(usage_error({"generate", "m", "--prompt", "x", option, value}),
                AllOf(HasSubstr(option), HasSubstr(value)));
  }
  const auto line = parse({"generate", "m", "--prompt", "x", "--seed", "18446744073709551615",
                           "--temperature", "0", "--top-p", "1"});
  EXPECT_EQ(std::get<GenerateCommand>(line->command).options.seed, 18446744073709551615U);
}

TEST(Options, EveryVerbExplainsItself) {
  for (const char* verb : {"inspect", "plan", "quantize", "analyze", "generate", "evaluate", "gate",
                           "report", "gate", "verify", "bench"}) {
    ::testing::internal::CaptureStdout();
    EXPECT_FALSE(parse({verb, "--help"}));
    const std::string help = ::testing::internal::GetCapturedStdout();
    EXPECT_THAT(help, HasSubstr(std::string("example:\n  qvlm ") + verb + " "));
    EXPECT_THAT(help, HasSubstr("exit codes: 0 done"));
  }
}

}  // namespace
}  // namespace qvlm::cli
