// A verdict as a table, as Markdown, as JSON and as JUnit XML.
#pragma once

#include <qvlm/gate.h>

#include <string>

#include "base/json.h"
#include "cli/table.h"

namespace qvlm::cli {

// What was gated, for titles.
struct GateTitle {
  std::string result, reference, limits;  // files
};

Table gate_table(const Verdict& verdict);
// What failed or could not be tested and why, one a line, then what else is different; may be
// empty.
std::string gate_reasons(const Verdict& verdict);
// "passed", "failed: accuracy loss, peak memory", "cannot be tested: ...".
std::string gate_summary(const Verdict& verdict);

std::string gate_markdown(const Verdict& verdict, const GateTitle& title);
Json gate_json(const Verdict& verdict, const GateTitle& title);
// One test case a row with a limit. In gate_junit.cc.
std::string gate_junit(const Verdict& verdict, const GateTitle& title);

}  // namespace qvlm::cli
