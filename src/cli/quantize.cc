// qvlm quantize: a recipe applied to a model folder.
#include <qvlm/quantize.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <optional>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/components.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/output_place.h"
#include "cli/progress.h"
#include "cli/search_text.h"
#include "cli/table.h"
#include "pipeline/search_json.h"

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
  if (!report.search) return json;
  Json search = search_to_json(*report.search);
  search.set("search_seconds", report.search->search_seconds);
  search.set("forward_seconds", report.search->forward_seconds);
  search.set("other_seconds", report.search->other_seconds);
  json.set("search", search);
  return json;
}

std::map<std::string, std::int64_t> bytes_by_component(const std::string& model) {
  std::map<std::string, std::int64_t> bytes;
  for (const ComponentSize& size : measure_components(Checkpoint::open(model), {}))
    bytes[size.name] = size.bytes;
  return bytes;
}

std::vector<LinearGroup> group_linears(const std::vector<LinearReport>& linears) {
  LinearGroups groups;
  for (std::size_t i = 0; i < linears.size(); ++i)
    groups.add(i, linears[i].name, linears[i].scheme);
  return groups.list();
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
  for (const LinearGroup& row : group_linears(report.linears)) {
    double error_sum = 0.0, worst_error = 0.0;
    for (const std::size_t member : row.members) {
      error_sum += report.linears[member].relative_error;
      worst_error = std::max(worst_error, report.linears[member].relative_error);
    }
    const bool is_float = row.scheme == "float";
    const bool first = row.component != last;  // sizes belong to the component, not to the scheme
    const auto size = [&](const auto& sizes) {
      const auto found = sizes.find(row.component);
      return !first ? "" : found == sizes.end() ? "-" : format_bytes(found->second);
    };
    const double count = static_cast<double>(row.members.size());
    table.add_row({row.component, std::to_string(row.members.size()), row.scheme,
                   is_float ? "-" : format_small(error_sum / count),
                   is_float ? "-" : format_small(worst_error), size(before), size(after)});
    last = row.component;
  }
  table.add_rule();
  table.add_row({"all weight files", std::to_string(report.linears.size()), "", "", "",
                 format_bytes(report.source_bytes), format_bytes(report.result_bytes)});
  std::cout << table.text()
            << "weight error: |W_q - W|^2 / |W|^2 of a linear; 1 MB = 1 000 000 bytes\n";
  if (report.search) std::cout << "\n" << search_text(*report.search) << cost_text(*report.search);
  std::cout << "wrote " << command.out << " in " << format_seconds(report.seconds) << "\n";
}

std::string target_option(const PrecisionTarget& target) {
  using Kind = PrecisionTarget::Kind;
  const std::map<Kind, std::string> options = {
      {Kind::kBitsPerWeight, " --target-bpw "},
      {Kind::kBytes, " --target-size "},
      {Kind::kActivationBits, " --target-activation-bits "},
      {Kind::kDivergence, " --max-kl "},
  };
  return options.at(target.kind) + Json(target.value).dump();  // as many digits as it has
}

std::string resume_hint(const QuantizeCommand& command) {
  const RecipeChoice& recipe = command.recipe;
  std::string choice = recipe.file.empty()
                           ? "--scheme " + recipe.scheme + " --preset " + preset_name(recipe.preset)
                           : "--recipe " + recipe.file;
  if (recipe.target) choice += target_option(*recipe.target);
  return "go on with: qvlm quantize " + command.model + " " + command.out + " " + choice +
         " --data " + command.data + " --resume";
}

}  // namespace

void run(const QuantizeCommand& command, const CommonOptions& common) {
  const Recipe recipe = command.recipe.load();
  check_output(command.report);
  QuantizeOptions options{command.overwrite, command.data, command.resume, {}};
  // What looks at data ends behind the layer or block that it is at; anything else ends at once.
  const bool resumable = recipe.needs_data();
  if (resumable) options.stop_requested = is_interrupted;
  QuantizeReport report;
  {
    ProgressLine line(common.quiet);
    report = quantize(command.model, command.out, recipe, options, [&](const Progress& progress) {
      if (resumable) return line.show(progress);
      line.update(progress);
    });
  }
  if (report.stopped) throw Stopped{resume_hint(command)};
  const Json json = to_json(command, recipe, report);
  if (!command.report.empty()) write_text_file(command.report, json.dump(1) + "\n");
  if (common.json) {
    std::cout << json.dump(2) << "\n";
  } else {
    print_table(command, report);
  }
}

}  // namespace qvlm::cli
