#include "eval/process_memory.h"

#include <fstream>
#include <string>

namespace qvlm {

std::int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;  // "VmHWM:  12345 kB"
  }
  return 0;
}

}  // namespace qvlm
