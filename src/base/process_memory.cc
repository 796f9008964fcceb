#include "base/process_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace qvlm {
namespace {

// The value of a line like "VmHWM:  12345 kB" in a file of /proc, in bytes.
std::int64_t read_kilobytes(const char* file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

std::int64_t resident_memory_bytes() {
  std::ifstream file("/proc/self/statm");  // pages: of the whole address space, resident ...
  std::int64_t whole = 0, resident = 0;
  file >> whole >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t peak_memory_bytes() {
  return read_kilobytes("/proc/self/status", "VmHWM:");
}

bool reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

std::int64_t available_memory_bytes() {
  return read_kilobytes("/proc/meminfo", "MemAvailable:");
}

void return_freed_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace qvlm
