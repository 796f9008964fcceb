// A verdict as JUnit XML, which CI systems show beside unit tests.
#include <pugixml.hpp>

#include <algorithm>
#include <sstream>

#include "cli/gate_table.h"

namespace qvlm::cli {
namespace {

// XML has no way to write the other control characters; a category may have some in its name.
std::string without_controls(std::string text) {
  std::erase_if(text, [](unsigned char c) { return c < 0x20 && c != '\t' && c != '\n'; });
  return text;
}

std::string row_text(const GateRow& row) {
  Verdict one;
  one.rows = {row};
  return without_controls(gate_table(one).text() + row.why + "\n");
}

bool is_outcome(const GateRow& row, GateOutcome outcome) {
  return row.outcome == outcome;
}

void add_case(pugi::xml_node suite, const GateRow& row) {
  pugi::xml_node test = suite.append_child("testcase");
  test.append_attribute("classname") = "qvlm.gate";
  test.append_attribute("name") = without_controls(row.what).c_str();
  const char* kind = row.outcome == GateOutcome::kFail         ? "failure"
                     : row.outcome == GateOutcome::kCannotTest ? "error"
                     : row.outcome == GateOutcome::kSkipped    ? "skipped"
                                                               : nullptr;
  if (kind != nullptr) {
    pugi::xml_node reason = test.append_child(kind);
    reason.append_attribute("message") = without_controls(row.why).c_str();
    reason.text().set(row_text(row).c_str());
  } else {
    test.append_child("system-out").text().set(row_text(row).c_str());
  }
}

}  // namespace

std::string gate_junit(const Verdict& verdict, const GateTitle& title) {
  const auto count = [&verdict](GateOutcome outcome) {
    return std::ranges::count_if(verdict.rows,
                                 [&](const GateRow& row) { return is_outcome(row, outcome); });
  };
  pugi::xml_document document;
  pugi::xml_node suite = document.append_child("testsuites").append_child("testsuite");
  const std::string name = without_controls(title.result + " against " + title.reference);
  suite.append_attribute("name") = name.c_str();
  suite.append_attribute("tests") =
      static_cast<long long>(std::ssize(verdict.rows) - count(GateOutcome::kNoLimit));
  suite.append_attribute("failures") = static_cast<long long>(count(GateOutcome::kFail));
  suite.append_attribute("errors") = static_cast<long long>(count(GateOutcome::kCannotTest));
  suite.append_attribute("skipped") = static_cast<long long>(count(GateOutcome::kSkipped));
  for (const GateRow& row : verdict.rows) {
    if (row.outcome != GateOutcome::kNoLimit) add_case(suite, row);
  }
  std::ostringstream text;
  document.save(text, "  ");
  return text.str();
}

}  // namespace qvlm::cli
