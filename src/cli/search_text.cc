#include "cli/search_text.h"

#include <algorithm>
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

// Behind the last layer.
std::string token_text(const TokenErrors& errors) {
  return "tokens       relative error behind the last block: image " + format_small(errors.image) +
         ", text " + format_small(errors.text) + ", answer " + format_small(errors.answer) + "\n";
}

// "0.0123 -> 0.0101"
std::string change_text(const VisionLoss& start, const VisionLoss& end) {
  return format_small(start.total) + " -> " + format_small(end.total);
}

std::string vision_text(const VisionReport& report) {
  std::string text = "vision       " + std::to_string(report.epochs.size()) + " epochs, loss " +
                     change_text(report.epochs.front(), report.epochs.back());
  if (report.held_out_start)
    text += ", on held-out samples " + change_text(*report.held_out_start, *report.held_out_end);
  if (!report.kept) text += ": not kept";
  return text + "\n";
}

std::string plan_text(const SearchReport& report) {
  std::string text = "plan         " + report.strategy;
  if (report.h0) text += ", threshold " + format_small(report.h0);
  text += ", " + format_fixed(report.planned_forwards, 0) + " layer-forwards planned";
  if (std::isfinite(report.allowed_forwards))
    text += " of " + format_fixed(report.allowed_forwards, 0) + " allowed";
  return text + ", " + std::to_string(report.forwards) + " taken\n";
}

// "layer 0 q_proj, k_proj, v_proj: w8 a8 (KL .00210 -> .00003)", those that matter most first.
std::string raised_text(const PrecisionReport& report) {
  constexpr std::size_t kMost = 8;
  std::vector<UnitPrecision> units = report.units;
  std::stable_sort(units.begin(), units.end(), [](const auto& a, const auto& b) {
    return a.least_divergence > b.least_divergence;
  });
  Table table({{"most sensitive", Table::Align::kLeft},
               {"scheme", Table::Align::kLeft},
               {"KL by the recipe"},
               {"as chosen"}});
  for (std::size_t i = 0; i < std::min(kMost, units.size()); ++i) {
    std::string name = "layer " + std::to_string(units[i].layer);
    for (const std::string& linear : units[i].linears)
      name += " " + linear.substr(linear.find('.') + 1);
    table.add_row({name, units[i].scheme, format_small(units[i].least_divergence),
                   format_small(units[i].divergence)});
  }
  return table.text() + "KL of the answers when nothing else is rounded\n";
}

std::string alphas_text(const std::vector<Alphas>& layers) {
  std::vector<double> found;
  std::size_t inputs = 0;
  for (const Alphas& alphas : layers) {
    inputs += alphas.size();
    for (const std::optional<double>& alpha : alphas) {
      if (alpha) found.push_back(*alpha);
    }
  }
  if (found.empty()) return "smoothing    no input gains from it\n";
  std::ranges::sort(found);
  return "smoothing    alpha " + format_fixed(found.front(), 2) + " to " +
         format_fixed(found.back(), 2) + ", median " + format_fixed(found[found.size() / 2], 2) +
         ", for " + std::to_string(found.size()) + " of " + std::to_string(inputs) + " inputs\n";
}

std::string massive_text(const std::vector<std::int64_t>& channels) {
  std::string text;
  for (const std::int64_t channel : channels)
    text += (text.empty() ? "massive      channels " : ", ") + std::to_string(channel);
  return text + " of the residual stream are not turned\n";
}

std::string precision_text(const PrecisionReport& report) {
  const std::optional<double> activation = report.bits_per_activation;
  return "precision    " + format_fixed(report.bits_per_weight, 3) + " bits a weight, " +
         format_fixed(report.least_bits, 3) + " by the recipe's own scheme; " +
         (activation ? format_fixed(*activation, 2) + " an activation; " : "") + "predicted KL " +
         format_small(report.least_divergence) + " -> " + format_small(report.divergence) + "; " +
         std::to_string(report.raised) + " of " + std::to_string(report.units.size()) +
         " units raised\n";
}

std::string wins_text(const std::map<std::string, std::int64_t>& wins) {
  std::string text;
  for (const auto& [choice, count] : wins)
    text += (text.empty() ? "winners      " : "; ") + std::to_string(count) + " x " + choice;
  return text + "\n";
}

}  // namespace

std::string calibration_text(const CalibrationReport& report) {
  const std::int64_t tokens = report.tokens();
  return "calibration  " + std::to_string(report.samples) + " samples, " + format_count(tokens) +
         " tokens: " + percent_of(report.image_tokens, tokens) + " image, " +
         percent_of(report.text_tokens, tokens) + " text, " +
         percent_of(report.answer_tokens, tokens) + " answer; data " +
         report.data_sha256.substr(0, 12) + "\n";
}

std::string search_text(const SearchReport& report) {
  std::string text = calibration_text(report.calibration);
  if (!report.massive_channels.empty()) text += massive_text(report.massive_channels);
  if (!report.alphas.empty()) text += alphas_text(report.alphas);
  if (report.vision) text += vision_text(*report.vision);
  if (report.blocks.empty()) return text;
  std::string all = report.precision ? raised_text(*report.precision) + "\n" : "";
  // Where there was nothing to choose from, blocks have nothing to tell.
  const bool searched = std::ranges::any_of(
      report.blocks, [](const BlockReport& block) { return block.forwards > block.depth; });
  if (searched)
    all += block_table(report).text() + "errors at the block's output, against the float model\n";
  all += token_text(report.blocks.back().token_errors) + text;
  if (searched) all += plan_text(report);
  if (report.precision) all += precision_text(*report.precision);
  if (report.answer_divergence)
    all += "answers      mean KL to the float model " + format_small(*report.answer_divergence) +
           ", of the decoder as it was rounded\n";
  return searched ? all + wins_text(report.wins) : all;
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
