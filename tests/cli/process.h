// Running the qvlm executable as its users do.
#pragma once

#include <cstdint>
#include <functional>
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

// The same; also the most memory that the process had for itself, mapped files not counted.
struct WatchedProcess {
  int exit_code = -1;
  std::string err;
  std::int64_t peak_anonymous_bytes = 0;
};
WatchedProcess watch_qvlm(const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& environment);

// The same, but killed (SIGKILL) after so many seconds unless it ended before.
ProcessResult kill_qvlm(const std::vector<std::string>& arguments, double seconds);

struct InterruptedProcess {
  int exit_code = -1;
  std::string err;
  double seconds_to_end = 0.0;  // from the signal
};

// Runs the executable, sends SIGINT as soon as running(stderr so far) is true, and waits for its
// end.
InterruptedProcess interrupt_qvlm(const std::vector<std::string>& arguments,
                                  const std::function<bool(const std::string&)>& running);

}  // namespace qvlm
