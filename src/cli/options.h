// From argv to a command. The only room that knows CLI11.
#pragma once

#include <optional>

#include "cli/commands.h"

namespace qvlm::cli {

struct CommandLine {
  CommonOptions common;
  Command command;
};

// Nothing when help or the version was asked for and has been printed. Throws kInvalidArgument for
// usage errors.
std::optional<CommandLine> parse_command_line(int argc, const char* const* argv);

}  // namespace qvlm::cli
