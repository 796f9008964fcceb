#include "cli/search_text.h"

#include <cmath>

#include "cli/format.h"
#include "cli/table.h"

namespace qvlm::cli {
namespace {

std::string layers_text(const BlockReport& block) {
  const std::string first = std::to_string(block.first);
  return block.depth == 1 ? first : first + "-" + std::to_string(block.first + block.depth - 1);
}

std::string choices_text(const BlockReport& block) {
  std::string text;
  for (const std::string& choice : block.choices)
    text += (text.empty() ? "" : " | ") + choice;
  return block.kept ? text : text + " (held-out samples disagreed)";
}

// Sums over blocks tell nothing, so errors stand beside what they were before.
Table block_table(const SearchReport& report) {
  Table table({{"layers", Table::Align::kLeft},
               {"unclipped"},
               {"greedy"},
               {"joint"},
               {"held out: unclipped"},
               {"found"},
               {"forwards"},
               {"clips", Table::Align::kLeft}});
  for (const BlockReport& block : report.blocks) {
    table.add_row({layers_text(block), format_small(block.start_error),
                   format_small(block.greedy_error), format_small(block.error),
                   format_small(block.held_out_start), format_small(block.held_out_error),
                   std::to_string(block.forwards), choices_text(block)});
  }
  return table;
}

std::string percent_of(std::int64_t part, std::int64_t whole) {
  return format_percent(whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace

std::string search_text(const SearchReport& report) {
  std::string text = block_table(report).text();
  text += "errors at the block's output, against the float model\n";
  const std::int64_t tokens = report.image_tokens + report.text_tokens + report.answer_tokens;
  text += "calibration  " + std::to_string(report.samples) + " samples, " +
          percent_of(report.image_tokens, tokens) + " of the tokens image, " +
          percent_of(report.text_tokens, tokens) + " text, " +
          percent_of(report.answer_tokens, tokens) + " answer; data " +
          report.data_sha256.substr(0, 12) + "\n";
  text += "plan         " + report.strategy;
  if (report.h0) text += ", threshold " + format_small(report.h0);
  text += ", " + format_fixed(report.planned_forwards, 0) + " layer-forwards planned";
  if (std::isfinite(report.allowed_forwards))
    text += " of " + format_fixed(report.allowed_forwards, 0) + " allowed";
  text += ", " + std::to_string(report.forwards) + " taken\n";
  text += "winners      ";
  std::string winners;
  for (const auto& [choice, count] : report.wins)
    winners += (winners.empty() ? "" : "; ") + std::to_string(count) + " x " + choice;
  return text + winners + "\n";
}

std::string cost_text(const SearchReport& report) {
  std::string text = "time         searching " + format_seconds(report.search_seconds) +
                     ", everything else " + format_seconds(report.other_seconds);
  if (report.forward_seconds > 0.0) {
    text += "; " + format_fixed(report.search_seconds / report.forward_seconds, 2) +
            " of its layer-forwards in float";
  }
  return text + "\n";
}

}  // namespace qvlm::cli
