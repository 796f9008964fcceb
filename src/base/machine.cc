#include "base/machine.h"

#include <fstream>
#include <string_view>

namespace qvlm {
namespace {

// "model" of "model\t\t: 2"; "model name" has a name of its own.
std::string_view key_of(std::string_view line) {
  const std::string_view key = line.substr(0, line.find(':'));
  return key.substr(0, key.find_last_not_of(" \t") + 1);
}

}  // namespace

std::string cpu_name() {
  std::ifstream lines("/proc/cpuinfo");
  std::string name, family, model;
  // Of the first processor: an empty line ends it.
  for (std::string line; std::getline(lines, line) && !line.empty();) {
    const std::size_t value = line.find(": ");
    if (value == std::string::npos) continue;
    const std::string_view key = key_of(line);
    if (key == "model name") name = line.substr(value + 2);
    if (key == "cpu family") family = line.substr(value + 2);
    if (key == "model") model = line.substr(value + 2);
  }
  if (name.empty()) return "unknown";
  return family.empty() || model.empty() ? name : name + " " + family + "." + model;
}

}  // namespace qvlm
