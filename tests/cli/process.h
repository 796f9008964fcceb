// Running the qvlm executable as its users do.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace qvlm {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal if one ended it
  std::string out, err;
};

// Runs the executable with these arguments and, added to ours, this environment.
ProcessResult run_qvlm(const std::vector<std::string>& arguments,
                       const std::map<std::string, std::string>& environment = {});

}  // namespace qvlm
