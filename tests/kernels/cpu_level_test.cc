#include "kernels/cpu_level.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/dispatch.h"

namespace qvlm::kernels {
namespace {

using testing::HasSubstr;

constexpr CpuLevel kLevels[] = {CpuLevel::kScalar, CpuLevel::kAvx2, CpuLevel::kAvx512Vnni};

std::string message_of_choosing(const char* name) {
  try {
    choose_cpu_level(name);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(CpuLevel, ForcedLevelIsTheRunningOne) {
  const char* forced = std::getenv("QVLM_CPU_LEVEL");
  if (forced == nullptr || *forced == '\0') GTEST_SKIP() << "QVLM_CPU_LEVEL is not set";
  EXPECT_EQ(cpu_level_name(cpu_level()), forced);
  EXPECT_STREQ(kernel_table(cpu_level()).name, forced);
}

TEST(CpuLevel, EveryLevelHasItsOwnTable) {
  for (CpuLevel level : kLevels) {
    if (cpu_supports(level)) {
      EXPECT_EQ(kernel_table(level).name, cpu_level_name(level));
    }
  }
}

TEST(CpuLevel, BestOneIsTheDefault) {
  const CpuLevel best = choose_cpu_level(nullptr);
  EXPECT_EQ(choose_cpu_level(""), best);
  for (CpuLevel level : kLevels) {
    if (cpu_supports(level)) {
      EXPECT_LE(level, best);
    }
  }
}

TEST(CpuLevel, UnknownOrMissingLevelListsTheChoices) {
  EXPECT_THAT(message_of_choosing("AVX2"), HasSubstr("unknown level 'AVX2'"));
  EXPECT_THAT(message_of_choosing("AVX2"), HasSubstr("scalar"));
  for (CpuLevel level : kLevels) {
    const std::string name(cpu_level_name(level));
    EXPECT_EQ(message_of_choosing(name.c_str()).empty(), cpu_supports(level));
  }
}

}  // namespace
}  // namespace qvlm::kernels
