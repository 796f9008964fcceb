#include "cli/progress.h"

#include <cstdio>

#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"

namespace qvlm::cli {
namespace {

constexpr double kSilentSeconds = 2.0;
constexpr double kTerminalSeconds = 0.1;  // between two showings
constexpr double kPlainSeconds = 5.0;
constexpr std::size_t kColumns = 79;  // a longer line would wrap and could not be rewritten
constexpr const char* kClearLine = "\r\033[K";

}  // namespace

std::string describe_progress(const Progress& progress, double elapsed_seconds) {
  const std::string counts = std::to_string(progress.done) + "/" + std::to_string(progress.total);
  std::string text = (progress.what.empty() ? "" : progress.what + " ") + counts;
  if (progress.total <= 0) return text;
  text += ", " + std::to_string(100 * progress.done / progress.total) + " %";
  if (progress.done > 0 && progress.done < progress.total) {
    const auto left = static_cast<double>(progress.total - progress.done);
    text += ", about " +
            format_seconds(elapsed_seconds * left / static_cast<double>(progress.done)) + " left";
  }
  return text;
}

ProgressLine::ProgressLine(bool quiet)
    : quiet_(quiet),
      terminal_(stderr_is_terminal()),
      start_(Clock::now()),
      last_(start_),
      count_start_(start_),
      seen_(start_) {}

ProgressLine::~ProgressLine() {
  if (shown_ && terminal_) std::fputs(kClearLine, stderr);
}

void ProgressLine::update(const Progress& progress) {
  throw_if_interrupted();
  show(progress);
}

void ProgressLine::show(const Progress& progress) {
  if (quiet_) return;
  const std::scoped_lock lock(mutex_);
  const Clock::time_point now = Clock::now();
  const auto seconds_since = [now](Clock::time_point then) {
    return std::chrono::duration<double>(now - then).count();
  };
  if (progress.done < done_) count_start_ = seen_;
  done_ = progress.done;
  seen_ = now;
  const double pause = terminal_ ? kTerminalSeconds : kPlainSeconds;
  const bool due = !shown_ || seconds_since(last_) >= pause;
  if (seconds_since(start_) < kSilentSeconds || !due) return;
  const std::string text = describe_progress(progress, seconds_since(count_start_));
  if (terminal_) {
    std::fputs((kClearLine + text.substr(0, kColumns)).c_str(), stderr);
  } else {
    std::fputs((text + "\n").c_str(), stderr);
  }
  std::fflush(stderr);
  last_ = now;
  shown_ = true;
}

}  // namespace qvlm::cli
