// The tests run once for each CPU level, with QVLM_CPU_LEVEL set. Where the CPU lacks that level
// they are skipped: exit code 77.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "qvlm/kernels.h"

int main(int argc, char** argv) {
  using qvlm::kernels::CpuLevel;
  testing::InitGoogleTest(&argc, argv);
  const char* forced = std::getenv("QVLM_CPU_LEVEL");
  for (CpuLevel level : {CpuLevel::kScalar, CpuLevel::kAvx2, CpuLevel::kAvx512Vnni}) {
    if (forced != nullptr && std::string_view(forced) == cpu_level_name(level) &&
        !cpu_supports(level)) {
      return 77;
    }
  }
  return RUN_ALL_TESTS();
}
