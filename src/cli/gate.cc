// qvlm gate: a report against its reference, for CI.
#include <qvlm/gate.h>

#include <iostream>

#include "base/error.h"
#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/gate_table.h"
#include "cli/output_place.h"

namespace qvlm::cli {

void run(const GateCommand& command, const CommonOptions& common) {
  check_output(command.junit);
  check_output(command.markdown);
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
