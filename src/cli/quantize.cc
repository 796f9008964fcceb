// qvlm quantize: a recipe applied to a model folder.
#include <qvlm/quantize.h>

#include <algorithm>
#include <iostream>
#include <optional>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/components.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "cli/table.h"

namespace qvlm::cli {
namespace {

Json to_json(const QuantizeCommand& command, const Recipe& recipe, const QuantizeReport& report) {
  Json json = Json::object(), linears = Json::array();
  for (const LinearReport& linear : report.linears) {
    Json entry = Json::object();
    entry.set("name", linear.name);
    entry.set("out", linear.out);
    entry.set("in", linear.in);
    entry.set("scheme", linear.scheme);
    entry.set("relative_error", linear.relative_error);
    linears.append(entry);
  }
  json.set("model", command.model);
  json.set("out", command.out);
  json.set("recipe", recipe.name);
  json.set("source_bytes", report.source_bytes);
  json.set("result_bytes", report.result_bytes);
  json.set("seconds", report.seconds);
  json.set("linears", linears);
  return json;
}

std::map<std::string, std::int64_t> bytes_by_component(const std::string& model) {
  std::map<std::string, std::int64_t> bytes;
  for (const ComponentSize& size : measure_components(Checkpoint::open(model), {}))
    bytes[size.name] = size.bytes;
  return bytes;
}

// Linears of one component that share a scheme.
struct Row {
  std::string component, scheme;
  std::int64_t linears = 0;
  double error_sum = 0.0, worst_error = 0.0;
};

std::vector<Row> group_linears(const std::vector<LinearReport>& linears) {
  std::vector<Row> rows;
  for (const LinearReport& linear : linears) {
    const std::string component = component_of(linear.name);
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& candidate) {
      return candidate.component == component && candidate.scheme == linear.scheme;
    });
    if (row == rows.end()) row = rows.insert(rows.end(), {component, linear.scheme, 0, 0.0, 0.0});
    row->linears += 1;
    row->error_sum += linear.relative_error;
    row->worst_error = std::max(row->worst_error, linear.relative_error);
  }
  return rows;
}

void print_table(const QuantizeCommand& command, const QuantizeReport& report) {
  Table table({{"component", Table::Align::kLeft},
               {"linears"},
               {"scheme", Table::Align::kLeft},
               {"weight error, mean"},
               {"worst"},
               {"bytes before"},
               {"after"}});
  const auto before = bytes_by_component(command.model), after = bytes_by_component(command.out);
  std::string last;
  for (const Row& row : group_linears(report.linears)) {
    const bool is_float = row.scheme == "float";
    const bool first = row.component != last;  // sizes belong to the component, not to the scheme
    const auto size = [&](const auto& sizes) {
      const auto found = sizes.find(row.component);
      return !first ? "" : found == sizes.end() ? "-" : format_bytes(found->second);
    };
    const double count = static_cast<double>(row.linears);
    table.add_row({row.component, std::to_string(row.linears), row.scheme,
                   is_float ? "-" : format_small(row.error_sum / count),
                   is_float ? "-" : format_small(row.worst_error), size(before), size(after)});
    last = row.component;
  }
  table.add_rule();
  table.add_row({"all weight files", std::to_string(report.linears.size()), "", "", "",
                 format_bytes(report.source_bytes), format_bytes(report.result_bytes)});
  std::cout << table.text()
            << "weight error: |W_q - W|^2 / |W|^2 of a linear; 1 MB = 1 000 000 bytes\n"
            << "wrote " << command.out << " in " << format_seconds(report.seconds) << "\n";
}

}  // namespace

void run(const QuantizeCommand& command, const CommonOptions& common) {
  const Recipe recipe = Recipe::load(command.recipe);
  std::optional<AtomicFile>
      report_file;  // opened first: a place that cannot be written fails before the work
  if (!command.report.empty()) report_file.emplace(command.report);
  QuantizeReport report;
  {
    ProgressLine line(common.quiet);
    report = quantize(command.model, command.out, recipe, {.overwrite = command.overwrite},
                      [&line](const Progress& progress) { line.update(progress); });
  }
  const Json json = to_json(command, recipe, report);
  if (report_file) {
    report_file->write(json.dump(1) + "\n");
    report_file->commit();
  }
  if (common.json) {
    std::cout << json.dump(2) << "\n";
  } else {
    print_table(command, report);
  }
}

}  // namespace qvlm::cli
