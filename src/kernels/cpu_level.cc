#include "kernels/cpu_level.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace qvlm::kernels {
namespace {

constexpr CpuLevel kLevels[] = {CpuLevel::kScalar, CpuLevel::kAvx2, CpuLevel::kAvx512Vnni};

std::string choices() {
  std::string text;
  for (CpuLevel level : kLevels) {
    if (!cpu_supports(level)) continue;
    if (!text.empty()) text += ", ";
    text += cpu_level_name(level);
  }
  return text;
}

}  // namespace

std::string_view cpu_level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kScalar:
      return "scalar";
    case CpuLevel::kAvx2:
      return "avx2";
    case CpuLevel::kAvx512Vnni:
      return "avx512vnni";
  }
  return "unknown";
}

bool cpu_supports(CpuLevel level) {
#if defined(__x86_64__)
  switch (level) {
    case CpuLevel::kScalar:
      return true;
    case CpuLevel::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CpuLevel::kAvx512Vnni:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  }
  return false;
#else
  return level == CpuLevel::kScalar;
#endif
}

CpuLevel choose_cpu_level(const char* forced) {
  CpuLevel best = CpuLevel::kScalar;
  for (CpuLevel level : kLevels) {
    if (cpu_supports(level)) best = level;
  }
  if (forced == nullptr || *forced == '\0') return best;
  for (CpuLevel level : kLevels) {
    if (cpu_level_name(level) != forced) continue;
    if (cpu_supports(level)) return level;
    throw std::runtime_error("[kernels] QVLM_CPU_LEVEL: this CPU lacks '" + std::string(forced) +
                             "'; choose one of: " + choices());
  }
  throw std::runtime_error("[kernels] QVLM_CPU_LEVEL: unknown level '" + std::string(forced) +
                           "'; choose one of: " + choices());
}

CpuLevel cpu_level() {
  static const CpuLevel level = choose_cpu_level(std::getenv("QVLM_CPU_LEVEL"));
  return level;
}

}  // namespace qvlm::kernels
