// qvlm verify: whether a model folder is whole, and whether it is of the model it was made of.
#include <qvlm/verify.h>

#include <algorithm>
#include <iostream>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "cli/table.h"

namespace qvlm::cli {
namespace {

constexpr std::size_t kWorstShown = 5;

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json checks_json(const VerifyReport& report) {
  Json checks = Json::array();
  for (const VerifyCheck& check : report.checks) {
    Json entry = Json::object();
    entry.set("name", check.name);
    entry.set("checked", check.checked);
    entry.set("problems", check.problems);
    entry.set("skipped", check.skipped.empty() ? Json() : Json(check.skipped));
    checks.append(entry);
  }
  return checks;
}

Json linears_json(const VerifyReport& report) {
  Json linears = Json::array();
  for (const VerifiedLinear& linear : report.linears) {
    Json entry = Json::object();
    entry.set("name", linear.name);
    entry.set("scheme", linear.scheme);
    entry.set("relative_error", linear.relative_error);
    entry.set("recorded", optional_json(linear.recorded));
    linears.append(entry);
  }
  return linears;
}

Json to_json(const VerifyCommand& command, const VerifyReport& report) {
  Json json = Json::object(), problems = Json::array(), replaced = Json::array();
  for (const VerifyProblem& problem : report.problems) {
    Json entry = Json::object();
    entry.set("file", problem.file);
    entry.set("tensor", problem.tensor);
    entry.set("problem", problem.problem);
    problems.append(entry);
  }
  for (const std::string& name : report.replaced)
    replaced.append(name);
  json.set("folder", command.folder);
  json.set("against", command.against.empty() ? Json() : Json(command.against));
  json.set("problems", problems);
  json.set("checks", checks_json(report));
  json.set("linears", linears_json(report));
  json.set("replaced", replaced);
  json.set("run_difference", optional_json(report.run_difference));
  json.set("run_bound", optional_json(report.run_bound));
  json.set("seconds", report.seconds);
  return json;
}

// "model.safetensors: tensor 'lm_head.weight': does not match its checksum".
std::string problem_line(const VerifyProblem& problem) {
  std::string line = problem.file;
  if (!problem.tensor.empty())
    line += (line.empty() ? "" : ": ") + join("tensor '", problem.tensor, "'");
  return (line.empty() ? "" : line + ": ") + problem.problem;
}

Table check_table(const VerifyReport& report) {
  Table table({{"check", Table::Align::kLeft},
               {"looked at"},
               {"problems"},
               {"remark", Table::Align::kLeft}});
  for (const VerifyCheck& check : report.checks) {
    const bool done = check.skipped.empty();
    table.add_row({check.name, done ? format_count(check.checked) : "-",
                   done ? format_count(check.problems) : "-",
                   done ? "" : "skipped: " + check.skipped});
  }
  return table;
}

// Of the linears with the largest errors.
Table error_table(const VerifyReport& report) {
  std::vector<VerifiedLinear> worst = report.linears;
  std::ranges::stable_sort(worst, std::greater(), &VerifiedLinear::relative_error);
  worst.resize(std::min(worst.size(), kWorstShown));
  Table table({{"largest weight errors", Table::Align::kLeft},
               {"scheme", Table::Align::kLeft},
               {"error"},
               {"when quantized"}});
  for (const VerifiedLinear& linear : worst)
    table.add_row({linear.name, linear.scheme, format_small(linear.relative_error),
                   format_small(linear.recorded)});
  return table;
}

void print_text(const VerifyCommand& command, const VerifyReport& report) {
  for (const VerifyProblem& problem : report.problems)
    std::cout << problem_line(problem) << "\n";
  std::cout << (report.problems.empty() ? "" : "\n") << check_table(report).text();
  if (!report.linears.empty())
    std::cout << "\n"
              << error_table(report).text() << "weight error: |W_q - W|^2 / |W|^2 of a linear\n";
  if (!report.replaced.empty())
    std::cout << report.replaced.size()
              << " tensors were changed by the recipe, so they are not compared\n";
  if (report.run_difference)
    std::cout << "packed and simulated logits differ by " << format_small(report.run_difference)
              << ", rounding explains " << format_small(report.run_bound) << "\n";
  if (report.problems.empty())
    std::cout << command.folder << ": no problems, in " << format_seconds(report.seconds) << "\n";
}

}  // namespace

void run(const VerifyCommand& command, const CommonOptions& common) {
  VerifyReport report;
  {
    ProgressLine line(common.quiet);
    report = verify(command.folder, {command.against, command.run},
                    [&](const Progress& progress) { line.update(progress); });
  }
  if (common.json) {
    std::cout << to_json(command, report).dump(2) << "\n";
  } else {
    print_text(command, report);
  }
  std::cout.flush();  // before the sentence on stderr
  const std::size_t count = report.problems.size();
  require(count == 0, ErrorKind::kCorrupt, command.folder, ": ", count,
          count == 1 ? " problem was found" : " problems were found");
}

}  // namespace qvlm::cli
