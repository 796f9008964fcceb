#include "cli/gate_table.h"

#include "cli/format.h"

namespace qvlm::cli {
namespace {

const char* outcome_name(GateOutcome outcome) {
  switch (outcome) {
    case GateOutcome::kPass:
      return "pass";
    case GateOutcome::kFail:
      return "FAIL";
    case GateOutcome::kCannotTest:
      return "CANNOT TEST";
    case GateOutcome::kSkipped:
      return "skipped";
    case GateOutcome::kNoLimit:
      return "-";
  }
  return "";
}

std::string format_value(std::optional<double> value, GateUnit unit) {
  if (!value) return "-";
  switch (unit) {
    case GateUnit::kShare:
      return format_fixed(100.0 * *value, 2) + " %";
    case GateUnit::kNats:
      return format_small(value);
    case GateUnit::kLogits:
    case GateUnit::kTokens:
      return format_fixed(*value, 3);
    case GateUnit::kBytes:
      return format_bytes(static_cast<std::int64_t>(*value));
    case GateUnit::kMultiple:
      return format_fixed(*value, 2) + " x float";
  }
  return "";
}

// Changes of a row: a multiple of the reference, a relative change, or in the row's own unit.
std::string format_change(std::optional<double> value, const GateRow& row) {
  if (!value) return "-";
  if (!row.relative) return format_value(value, row.unit);
  if (row.unit == GateUnit::kTokens) return format_fixed(100.0 * *value, 2) + " %";
  return "x " + format_fixed(*value, 3);
}

std::string change_cell(const GateRow& row) {
  std::string text = format_change(row.change, row);
  if (row.interval) {
    text += " [" + format_change(row.interval->low, row) + ", " +
            format_change(row.interval->high, row) + "]";
  }
  return text;
}

std::string flips_cell(const GateRow& row) {
  if (!row.mcnemar_p) return "-";
  return std::to_string(row.lost) + "/" + std::to_string(row.won) + " (p " +
         format_p(*row.mcnemar_p) + ")";
}

std::string names_of(const Verdict& verdict, GateOutcome outcome) {
  std::string names;
  for (const GateRow& row : verdict.rows) {
    if (row.outcome == outcome) names += (names.empty() ? "" : ", ") + row.what;
  }
  return names;
}

}  // namespace

Table gate_table(const Verdict& verdict) {
  Table table({{"quantity", Table::Align::kLeft},
               {"reference"},
               {"result"},
               {"change [95 %]"},
               {"lost/won (McNemar)"},
               {"limit"},
               {"found from"},
               {"verdict", Table::Align::kLeft}});
  for (const GateRow& row : verdict.rows) {
    table.add_row({row.what, format_value(row.reference, row.unit),
                   format_value(row.result, row.unit), change_cell(row), flips_cell(row),
                   format_change(row.limit, row), format_change(row.detectable, row),
                   outcome_name(row.outcome)});
  }
  return table;
}

std::string gate_reasons(const Verdict& verdict) {
  std::string text;
  for (const GateRow& row : verdict.rows) {
    if (!row.why.empty() && row.outcome != GateOutcome::kNoLimit)
      text += std::string(outcome_name(row.outcome)) + "  " + row.what + ": " + row.why + "\n";
  }
  for (const std::string& note : verdict.notes)
    text += "note  " + note + "\n";
  return text;
}

std::string gate_summary(const Verdict& verdict) {
  const std::string failed = names_of(verdict, GateOutcome::kFail);
  const std::string untested = names_of(verdict, GateOutcome::kCannotTest);
  if (failed.empty() && untested.empty()) return "passed";
  std::string text;
  if (!failed.empty()) text = "failed: " + failed;
  if (!untested.empty()) text += (text.empty() ? "" : "; ") + ("cannot be tested: " + untested);
  return text;
}

std::string gate_markdown(const Verdict& verdict, const GateTitle& title) {
  std::string text = "### qvlm gate: " + gate_summary(verdict) + "\n\n`" + title.result +
                     "` against `" + title.reference + "`, limits `" + title.limits + "`\n\n" +
                     gate_table(verdict).markdown();
  const std::string reasons = gate_reasons(verdict);
  if (!reasons.empty()) text += "\n```\n" + reasons + "```\n";
  return text;
}

Json gate_json(const Verdict& verdict, const GateTitle& title) {
  const auto number = [](std::optional<double> value) { return value ? Json(*value) : Json(); };
  Json json = Json::object(), rows = Json::array(), notes = Json::array();
  for (const GateRow& row : verdict.rows) {
    Json item = Json::object();
    item.set("what", row.what);
    item.set("outcome", outcome_name(row.outcome));
    item.set("reference", number(row.reference));
    item.set("result", number(row.result));
    item.set("change", number(row.change));
    item.set("low", row.interval ? Json(row.interval->low) : Json());
    item.set("high", row.interval ? Json(row.interval->high) : Json());
    item.set("limit", number(row.limit));
    item.set("detectable", number(row.detectable));
    item.set("items", row.items);
    item.set("lost", row.lost);
    item.set("won", row.won);
    item.set("mcnemar_p", number(row.mcnemar_p));
    item.set("why", row.why);
    rows.append(item);
  }
  for (const std::string& note : verdict.notes)
    notes.append(note);
  json.set("result", title.result);
  json.set("reference", title.reference);
  json.set("limits", title.limits);
  json.set("passed", verdict.passed());
  json.set("rows", rows);
  json.set("notes", notes);
  return json;
}

}  // namespace qvlm::cli
