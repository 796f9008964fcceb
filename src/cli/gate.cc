// qvlm gate: a report against its reference, for CI.
#include <qvlm/gate.h>

#include <filesystem>
#include <iostream>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/gate_table.h"
#include "cli/output_place.h"

namespace qvlm::cli {
namespace {

namespace fs = std::filesystem;

// Makes place for an output: what an earlier run left there would pass for this one's when this one
// ends with an error.
void clear_output(const std::string& file, const std::vector<std::string>& others) {
  if (file.empty()) return;
  for (const std::string& other : others) {
    require(other.empty() || fs::weakly_canonical(file) != fs::weakly_canonical(other),
            ErrorKind::kInvalidArgument, "cannot write ", file,
            ": it is another file of this command");
  }
  check_output(file);
  fs::remove(file);
}

}  // namespace

void run(const GateCommand& command, const CommonOptions& common) {
  clear_output(command.junit, {command.report, command.reference, command.limits});
  clear_output(command.markdown,
               {command.report, command.reference, command.limits, command.junit});
  const Limits limits = Limits::load(command.limits);
  const Verdict verdict =
      gate(Report::load(command.report), Report::load(command.reference), limits);
  const GateTitle title{command.report, command.reference, command.limits};
  if (!command.junit.empty()) write_text_file(command.junit, gate_junit(verdict, title));
  if (!command.markdown.empty()) write_text_file(command.markdown, gate_markdown(verdict, title));
  if (common.json) {
    std::cout << gate_json(verdict, title).dump(2) << "\n";
  } else {
    std::cout << gate_table(verdict).text() << gate_reasons(verdict)
              << "found from: the smallest change that these items show 4 times of 5\n"
              << gate_summary(verdict) << "\n";
  }
  std::cout.flush();
  if (verdict.failed()) throw GateFailed{gate_summary(verdict)};
  require(verdict.passed(), ErrorKind::kInvalidArgument, command.limits, ": ",
          gate_summary(verdict));
}

}  // namespace qvlm::cli
