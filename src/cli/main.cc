// The qvlm executable: one verb, one exit code, and one sentence when it fails.
#include <qvlm/error.h>
#include <qvlm/kernels.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <variant>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "tensor/public_call.h"

namespace qvlm::cli {
namespace {

enum ExitCode {
  kDone = 0,
  kOther = 1,
  kUsage = 2,
  kBadFile = 3,
  kUnsupportedModel = 4,
  kGate = 5,
  kResumable = 75,
  kSignal = 128
};

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
      return kUsage;
    case ErrorKind::kNotFound:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
      return kBadFile;
    case ErrorKind::kUnsupported:
      return kUnsupportedModel;
    case ErrorKind::kResource:
    case ErrorKind::kInternal:
      return kOther;
  }
  return kOther;
}

void complain(const std::string& what) {
  const bool colour = stderr_has_colour();
  std::fprintf(stderr, "%sqvlm: error:%s %s\n", colour ? "\033[1;31m" : "", colour ? "\033[0m" : "",
               what.c_str());
}

// An unknown or missing level is found before any work is done.
void check_cpu() {
  try {
    kernels::cpu_level();
  } catch (const std::runtime_error& error) {
    fail(ErrorKind::kUnsupported, error.what());
  }
}

void execute(const CommandLine& line) {
  if (line.common.quiet) set_log_level(LogLevel::kOff);
  check_cpu();
  // LibTorch takes its count from the same OpenMP pool.
  if (line.common.threads > 0) set_thread_count(line.common.threads);
  start_libtorch();  // for verbs that compute beside the public functions
  catch_interrupts();
  std::visit([&](const auto& command) { run(command, line.common); }, line.command);
  std::cout.flush();
  require(std::cout.good(), ErrorKind::kIo, "cannot write to standard output");
}

int guarded_main(int argc, const char* const* argv) {
  try {
    const std::optional<CommandLine> line = parse_command_line(argc, argv);
    if (line) execute(*line);
    return kDone;
  } catch (const Error& error) {
    complain(error.what());
    return exit_code(error.kind());
  } catch (const GateFailed& gate) {
    std::fprintf(stderr, "qvlm: gate %s\n", gate.summary.c_str());
    return kGate;
  } catch (const Interrupted& interrupted) {
    std::fputs("qvlm: interrupted, nothing half-written was left\n", stderr);
    return kSignal + interrupted.signal;
  } catch (const Stopped& stopped) {
    std::fprintf(stderr, "qvlm: stopped, what is finished is kept; %s\n",
                 stopped.how_to_resume.c_str());
    return kResumable;
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::filesystem::filesystem_error& error) {
    complain(error.what());
    return kBadFile;
  } catch (const c10::Error& error) {
    complain(error.what_without_backtrace());
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return kOther;
}

}  // namespace
}  // namespace qvlm::cli

int main(int argc, char** argv) {
  return qvlm::cli::guarded_main(argc, argv);
}
