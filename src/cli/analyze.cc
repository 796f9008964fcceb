// qvlm analyze: how layers depend on each other, and what every planning strategy makes of it.
#include <qvlm/analyze.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "cli/table.h"

namespace qvlm::cli {
namespace {

// Joint gain of the pair that begins with this layer, relative to the greedy error.
std::string pair_gain(const Analysis& analysis, std::size_t layer) {
  if (layer >= analysis.joint_gains.size()) return "-";
  const JointGainAnalysis& gain = analysis.joint_gains[layer];
  if (gain.greedy_error.size() < 2) return "-";
  return format_percent(1.0 - gain.joint_error[1] / gain.greedy_error[1]);
}

Table layer_table(const Analysis& analysis) {
  Table table({{"layer", Table::Align::kLeft},
               {"entropy"},
               {"D to the next"},
               {"top code"},
               {"rounding error"},
               {"pair gain"},
               {"ms"}});
  for (std::size_t i = 0; i < analysis.decoder.size(); ++i) {
    const LayerAnalysis& layer = analysis.decoder[i];
    const bool last = i + 1 == analysis.decoder.size();
    table.add_row({layer.name, format_fixed(layer.entropy, 3),
                   last ? "-" : format_fixed(layer.dependency, 4),
                   format_percent(layer.level_share), format_small(layer.error),
                   pair_gain(analysis, i), format_fixed(1e3 * layer.forward_seconds, 1)});
  }
  return table;
}

std::string blocks_text(const PlanAnalysis& plan) {
  std::string text;
  for (const PlannedBlock& block : plan.blocks) {
    const std::string first = std::to_string(block.first);
    text += (text.empty() ? "" : " ") + first;
    if (block.depth > 1) text += "-" + std::to_string(block.first + block.depth - 1);
  }
  return text;
}

Table plan_table(const Analysis& analysis) {
  Table table({{"strategy", Table::Align::kLeft},
               {"threshold"},
               {"layer-forwards"},
               {"promised gain"},
               {"blocks", Table::Align::kLeft}});
  for (const PlanAnalysis& plan : analysis.plans) {
    table.add_row({plan.strategy, format_small(plan.h0), format_fixed(plan.cost, 0),
                   format_small(plan.gain), blocks_text(plan)});
  }
  return table;
}

// Before the work: a place that cannot be written is found then.
void make_report_folder(const std::string& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  require(!code, ErrorKind::kIo, "cannot create ", folder, ": ", code.message());
}

void warn_of_collapsed_codes(const Analysis& analysis) {
  constexpr double kCollapsed = 0.9;
  const auto collapsed =
      std::count_if(analysis.decoder.begin(), analysis.decoder.end(),
                    [](const LayerAnalysis& layer) { return layer.level_share > kCollapsed; });
  if (collapsed == 0) return;
  std::cout << "warning: at " << collapsed
            << " layers one code holds over 90 % of the values (outliers): their entropy says "
               "little\n";
}

}  // namespace

void run(const AnalyzeCommand& command, const CommonOptions& common) {
  Recipe recipe = Recipe::load(command.recipe);
  if (command.budget > 0.0) {
    recipe.plan.budget = command.budget;
    recipe.plan.h0.reset();
  }
  AnalyzeOptions options{.joint_gains = command.joint_gains};
  if (!command.report.empty()) {
    make_report_folder(command.report);
    options.statistics = std::filesystem::path(command.report) / "statistics.safetensors";
  }
  Analysis analysis;
  {
    ProgressLine line(common.quiet);
    analysis = analyze(command.model, command.data, recipe, options,
                       [&line](const Progress& progress) { line.update(progress); });
  }
  if (!command.report.empty()) write_analysis(analysis, command.report);
  if (common.json) {
    std::cout << analysis_to_json(analysis);
    return;
  }
  std::cout << layer_table(analysis).text()
            << "entropies in nats per element; pair gain: what searching the layer and the next "
               "jointly takes off the greedy error\n\n"
            << plan_table(analysis).text();
  if (std::isfinite(analysis.budget))
    std::cout << "budget: " << format_fixed(analysis.budget, 0) << " layer-forwards\n";
  warn_of_collapsed_codes(analysis);
  if (!command.report.empty()) std::cout << "wrote " << command.report << "/index.html\n";
}

}  // namespace qvlm::cli
