#include "cli/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "base/mapped_file.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

// In the child: stdin from nowhere, stdout and stderr to the files, then the executable.
[[noreturn]] void execute(std::vector<char*> arguments,
                          const std::string& out,
                          const std::string& err) {
  const int input = ::open("/dev/null", O_RDONLY);
  const int output = ::open(out.c_str(), O_WRONLY | O_CREAT, 0600);
  const int errors = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  ::execv(QVLM_EXECUTABLE, arguments.data());
  ::_exit(126);
}

// Starts the executable; returns its process id.
pid_t start(const std::vector<std::string>& arguments,
            const std::map<std::string, std::string>& environment,
            const std::string& out,
            const std::string& err) {
  std::vector<std::string> words = {"qvlm"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words)
    pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    for (const auto& [name, value] : environment)
      ::setenv(name.c_str(), value.c_str(), 1);
    execute(pointers, out, err);
  }
  return child;
}

int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

ProcessResult run_qvlm(const std::vector<std::string>& arguments,
                       const std::map<std::string, std::string>& environment) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "out", err = folder.path() / "err";
  const pid_t child = start(arguments, environment, out, err);
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  return {exit_code(status), read_text_file(out), read_text_file(err)};
}

WatchedProcess watch_qvlm(const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& environment) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "out", err = folder.path() / "err";
  const pid_t child = start(arguments, environment, out, err);
  WatchedProcess result;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) != child) {
    std::ifstream file("/proc/" + std::to_string(child) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (!line.starts_with("RssAnon:")) continue;
      const std::int64_t bytes = 1024 * std::stoll(line.substr(line.find_first_of("0123456789")));
      result.peak_anonymous_bytes = std::max(result.peak_anonymous_bytes, bytes);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  result.exit_code = exit_code(status);
  result.err = read_text_file(err);
  return result;
}

ProcessResult kill_qvlm(const std::vector<std::string>& arguments, double seconds) {
  using Clock = std::chrono::steady_clock;
  const TemporaryFolder folder;
  const std::string out = folder.path() / "out", err = folder.path() / "err";
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(seconds));
  const pid_t child = start(arguments, {}, out, err);
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) != child) {
    if (Clock::now() >= end) ::kill(child, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return {exit_code(status), "", ""};
}

InterruptedProcess interrupt_qvlm(const std::vector<std::string>& arguments,
                                  const std::function<bool(const std::string&)>& running) {
  using Clock = std::chrono::steady_clock;
  const TemporaryFolder folder;
  const std::string out = folder.path() / "out", err = folder.path() / "err";
  const pid_t child = start(arguments, {}, out, err);
  const auto errors = [&err] {
    return std::filesystem::exists(err) ? read_text_file(err) : std::string();
  };
  int status = 0;
  bool ended = false;
  while (!ended && !running(errors())) {
    ended = ::waitpid(child, &status, WNOHANG) == child;  // too early: the exit code tells
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const Clock::time_point signal_time = Clock::now();
  if (!ended) {
    ::kill(child, SIGINT);
    if (::waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  }
  const std::chrono::duration<double> left = Clock::now() - signal_time;
  return {exit_code(status), errors(), left.count()};
}

}  // namespace qvlm
