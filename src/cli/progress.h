// Progress of long work on stderr: one line rewritten in place on a terminal, a plain line every
// few seconds anywhere else, nothing for work that ends within two seconds.
#pragma once

#include <qvlm/quantize.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace qvlm::cli {

// "questions 120/4500, 2 %, about 3 min 05 s left".
std::string describe_progress(const Progress& progress, double elapsed_seconds);

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine();  // removes the line from a terminal
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Safe to call from any thread. Throws Interrupted after Ctrl-C, quiet or not.
  void update(const Progress& progress);
  // The same for work that looks for interruptions itself.
  void show(const Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;

  bool quiet_;
  bool terminal_;
  std::mutex mutex_;
  Clock::time_point start_;
  Clock::time_point last_;         // that something was shown
  Clock::time_point count_start_;  // of this count: of layers, then of forwards, ...
  Clock::time_point seen_;         // the last update
  std::int64_t done_ = 0;          // by it
  bool shown_ = false;
};

}  // namespace qvlm::cli
