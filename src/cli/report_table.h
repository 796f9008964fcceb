// Reports and comparisons as tables and as JSON: shared by `evaluate` and `report`.
#pragma once

#include <qvlm/evaluate.h>

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/table.h"

namespace qvlm::cli {

// A report and what sets it apart from the reference; the reference itself has no comparison.
struct ComparedReport {
  Report report;
  std::optional<Comparison> comparison;
};

// One row a report.
Table report_table(const std::vector<ComparedReport>& reports);
// One row a category, then the total.
Table category_table(const Report& report);
// "84 integer, 49 float": what multiplied; empty for reports that do not tell.
std::string describe_products(const Report& report);
// "agreement 98.2 % [...], lost 12, won 8, ...", one fact a line.
std::string describe_comparison(const Comparison& comparison);

// Everything but the items.
Json summary_json(const ComparedReport& report);

}  // namespace qvlm::cli
