#include "pipeline/precision_run.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/error.h"
#include "io/scheme.h"
#include "planner/allocation.h"
#include "search/sensitivity.h"
#include "search/token_errors.h"

namespace qvlm {
namespace {

using UnitsOfBlock = std::vector<const PrecisionUnit*>;

std::vector<UnitsOfBlock> units_of_blocks(const PrecisionChoice& choice, const BlockPlan& plan) {
  std::vector<UnitsOfBlock> blocks;
  for (const Block& block : plan.blocks) {
    UnitsOfBlock& own = blocks.emplace_back();
    for (const PrecisionUnit& unit : choice.units) {
      if (unit.layer >= block.first && unit.layer < block.first + block.depth) own.push_back(&unit);
    }
  }
  return blocks;
}

std::int64_t count_answers(const std::vector<std::vector<TokenKind>>& kinds) {
  std::int64_t count = 0;
  for (const std::vector<TokenKind>& sample : kinds) {
    for (std::size_t t = 0; t < sample.size(); ++t)
      count += predicts_answer(sample, t) ? 1 : 0;
  }
  return count;
}

// What every candidate of every unit changes on some samples, units in order and the candidates of
// each together; empty where it was stopped.
std::vector<AnswerChange> measure_part(const PrecisionChoice& choice,
                                       Sensitivity& sensitivity,
                                       const std::function<bool()>& stop_requested) {
  std::vector<AnswerChange> changes;
  for (auto unit = choice.units.rbegin(); unit != choice.units.rend(); ++unit) {
    while (static_cast<std::int64_t>(sensitivity.layer()) > unit->layer) {
      if (stop_requested && stop_requested()) return {};
      sensitivity.descend();
    }
    std::vector<AnswerChange> own = sensitivity.measure(unit->schemes);
    changes.insert(changes.end(), own.rbegin(), own.rend());
  }
  std::ranges::reverse(changes);
  return changes;
}

// How many samples the journal has, of so many.
std::size_t count_measured(const SearchJournal& journal, std::size_t variants, std::size_t most) {
  std::size_t samples = 0;
  for (const std::vector<AnswerChange>& part : journal.precision()) {
    const std::size_t own = part.empty() ? 0 : part.front().size();
    samples += own / Sensitivity::kDraws;
    const bool alike =
        std::ranges::all_of(part, [&](const AnswerChange& change) { return change.size() == own; });
    require(part.size() == variants && alike && own > 0 && own % Sensitivity::kDraws == 0 &&
                samples <= most,
            ErrorKind::kCorrupt,
            "the journal of this run is damaged: what mixed precision measured has another shape "
            "than the model; overwrite to begin anew");
  }
  return samples;
}

bool has_static_scheme(const PrecisionChoice& choice) {
  return std::ranges::any_of(choice.units, [](const PrecisionUnit& unit) {
    return std::ranges::any_of(unit.schemes, [](const LinearSchemes& schemes) {
      return std::ranges::any_of(
          schemes, [](const auto& linear) { return has_static_input(linear.second); });
    });
  });
}

// Goes on where the journal ends, by a batch of samples at a time; by all at once where scales are
// measured on them. Whether it was not stopped.
bool measure_changes(const DecoderStudy& study,
                     const PrecisionChoice& choice,
                     const DecoderInputs& inputs,
                     SearchJournal& journal,
                     const std::function<bool()>& stop_requested) {
  std::size_t variants = 0;
  for (const PrecisionUnit& unit : choice.units)
    variants += unit.schemes.size();
  const std::size_t count = inputs.kinds.size();
  std::size_t done = count_measured(journal, variants, count);
  const std::size_t step = has_static_scheme(choice) ? count : gradient_batch();
  const std::size_t parts = (count - done + step - 1) / step;
  const auto on_forward = count_over_batches(parts, [&] {
    if (study.on_forward) study.on_forward("precision");
  });
  for (; done < count; done += step) {
    if (stop_requested && stop_requested()) return false;
    const std::size_t end = std::min(done + step, count);
    Sensitivity sensitivity(study.root, study.config, slice(inputs.exact, done, end),
                            slice(inputs.kinds, done, end), done, on_forward);
    const std::vector<AnswerChange> part = measure_part(choice, sensitivity, stop_requested);
    if (part.empty()) return false;
    journal.add_precision(part);
  }
  return true;
}

// Of the units of one block, from the parts that the journal has.
std::vector<std::vector<double>> combine_block(const std::vector<std::vector<AnswerChange>>& parts,
                                               std::size_t first,
                                               std::size_t count,
                                               std::int64_t positions) {
  std::vector<AnswerChange> changes(count);
  for (const std::vector<AnswerChange>& part : parts) {
    for (std::size_t i = 0; i < count; ++i) {
      const AnswerChange& own = part.at(first + i);
      changes[i].insert(changes[i].end(), own.begin(), own.end());
    }
  }
  return combine_changes(changes, positions);
}

Allocation allocate_by_target(const std::vector<AllocationBlock>& blocks,
                              const PrecisionChoice& choice) {
  if (choice.target.kind == PrecisionTarget::Kind::kDivergence)
    return allocate_within_error(blocks, choice.target.value);
  return allocate_within_cost(blocks, choice.budget());
}

Allocation allocate(const std::vector<AllocationBlock>& blocks,
                    const PrecisionChoice& choice,
                    SearchJournal& journal) {
  try {
    return allocate_by_target(blocks, choice);
  } catch (const Error&) {
    journal.remove();  // no run of this recipe gets further
    throw;
  }
}

UnitPrecision describe_unit(const PrecisionUnit& unit,
                            std::size_t chosen,
                            const std::vector<std::vector<double>>& error,
                            std::size_t row) {
  UnitPrecision report;
  report.layer = unit.layer;
  for (const std::string& name : unit.linears) {
    const std::size_t layer_end = name.find('.', std::string("decoder.layers.").size());
    report.linears.push_back(name.substr(layer_end + 1));
  }
  report.scheme = describe(unit.schemes[chosen].begin()->second);
  report.least_divergence = error[row][row];
  report.divergence = error[row + chosen][row + chosen];
  return report;
}

double bits_per_weight(std::int64_t bytes, const PrecisionChoice& choice) {
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(choice.weights());
}

// Error and bytes of the recipe's own schemes everywhere: every unit's first candidate.
void describe_least(const std::vector<AllocationBlock>& blocks,
                    const PrecisionChoice& choice,
                    PrecisionReport& report) {
  std::int64_t bytes = 0;
  for (const PrecisionUnit& unit : choice.units)
    bytes += unit.bytes.front();
  for (const AllocationBlock& block : blocks) {
    std::vector<std::size_t> rows;
    std::size_t row = 0;
    for (const auto& candidates : block.cost) {
      rows.push_back(row);
      row += candidates.size();
    }
    double error = 0.0;
    for (const std::size_t a : rows) {
      for (const std::size_t b : rows)
        error += block.error[a][b];
    }
    report.least_divergence += std::max(error, 0.0);
  }
  report.least_bits = bits_per_weight(bytes, choice);
}

PrecisionRun apply(const Allocation& allocation,
                   const std::vector<UnitsOfBlock>& units,
                   const std::vector<AllocationBlock>& blocks,
                   const PrecisionChoice& choice) {
  PrecisionRun run;
  std::int64_t bytes = 0, activation_bits = 0;
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    std::size_t row = 0;
    for (std::size_t u = 0; u < units[b].size(); ++u) {
      const PrecisionUnit& unit = *units[b][u];
      const auto chosen = static_cast<std::size_t>(allocation.choices[b][u]);
      run.report.units.push_back(describe_unit(unit, chosen, blocks[b].error, row));
      row += unit.schemes.size();
      bytes += unit.bytes[chosen];
      activation_bits += unit.activation_bits[chosen];
      run.schemes.insert(unit.schemes[chosen].begin(), unit.schemes[chosen].end());
      if (chosen == 0) continue;
      run.raised.insert(unit.linears.begin(), unit.linears.end());
      ++run.report.raised;
    }
  }
  run.report.divergence = allocation.error;
  run.report.bits_per_weight = bits_per_weight(bytes, choice);
  run.report.bits_per_activation =
      static_cast<double>(activation_bits) / static_cast<double>(choice.weights());
  describe_least(blocks, choice, run.report);
  return run;
}

}  // namespace

PrecisionRun choose_precision(const DecoderStudy& study,
                              const PrecisionChoice& choice,
                              const DecoderInputs& inputs,
                              std::int64_t samples,
                              SearchJournal& journal,
                              const std::function<bool()>& stop_requested) {
  const std::size_t taken = std::min(static_cast<std::size_t>(samples), inputs.kinds.size());
  const DecoderInputs part = {slice(inputs.exact, 0, taken), {}, slice(inputs.kinds, 0, taken)};
  if (!measure_changes(study, choice, part, journal, stop_requested)) return {{}, {}, {}, true};
  const std::int64_t positions = count_answers(part.kinds);
  const std::vector<UnitsOfBlock> units = units_of_blocks(choice, *journal.plan());
  std::vector<AllocationBlock> blocks;
  std::size_t first = 0;
  for (const UnitsOfBlock& own : units) {
    AllocationBlock& block = blocks.emplace_back();
    std::size_t variants = 0;
    for (const PrecisionUnit* unit : own) {
      block.cost.push_back(unit->cost(choice.target.kind));
      variants += unit->schemes.size();
    }
    block.error = combine_block(journal.precision(), first, variants, positions);
    first += variants;
  }
  PrecisionRun run = apply(allocate(blocks, choice, journal), units, blocks, choice);
  run.report.forwards = precision_forwards(choice, study.config.text.layers);
  return run;
}

}  // namespace qvlm
