// qvlm report: earlier reports side by side.
#include <iostream>

#include "cli/commands.h"
#include "cli/report_table.h"

namespace qvlm::cli {

void run(const ReportCommand& command, const CommonOptions& common) {
  std::vector<ComparedReport> reports;
  for (const std::string& file : command.files) {
    reports.push_back({Report::load(file), std::nullopt});
    if (reports.size() > 1)
      reports.back().comparison = compare(reports.back().report, reports.front().report);
  }
  if (common.json) {
    Json json = Json::object(), list = Json::array();
    for (const ComparedReport& report : reports)
      list.append(summary_json(report));
    json.set("reports", list);
    std::cout << json.dump(2) << "\n";
    return;
  }
  const Table table = report_table(reports);
  std::cout << (command.markdown ? table.markdown() : table.text());
  if (command.markdown) std::cout << "\n";
  std::cout << "Compared with the first; lost: right there, wrong here. KL in nats at the first "
               "answer position, margin "
               "in logits.\n"
               "1 MB = 1 000 000 bytes; time without loading.\n";
}

}  // namespace qvlm::cli
