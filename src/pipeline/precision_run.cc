#include "pipeline/precision_run.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>

#include "base/error.h"
#include "io/scheme.h"
#include "planner/allocation.h"
#include "search/sensitivity.h"

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

// What the samples give of these units, one layer after the other from where `sensitivity` is.
std::vector<std::vector<double>> measure_block(const UnitsOfBlock& units,
                                               const Block& block,
                                               Sensitivity& sensitivity) {
  std::vector<AnswerEffect> effects;
  for (std::int64_t layer = block.first; layer < block.first + block.depth; ++layer) {
    std::vector<LinearSchemes> variants;
    for (const PrecisionUnit* unit : units) {
      if (unit->layer == layer)
        variants.insert(variants.end(), unit->schemes.begin(), unit->schemes.end());
    }
    std::vector<AnswerEffect> own = sensitivity.measure(variants);
    std::move(own.begin(), own.end(), std::back_inserter(effects));
    sensitivity.advance();
  }
  return combine_effects(effects);
}

Allocation allocate_by_target(const std::vector<AllocationBlock>& blocks,
                              const PrecisionChoice& choice) {
  if (choice.target.kind == PrecisionTarget::Kind::kDivergence)
    return allocate_within_error(blocks, choice.target.value);
  return allocate_within_bytes(blocks, choice.unit_bytes());
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
  for (const AllocationBlock& block : blocks) {
    std::vector<std::size_t> rows;
    std::size_t row = 0;
    for (const auto& candidates : block.bytes) {
      bytes += candidates.front();
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
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    std::size_t row = 0;
    for (std::size_t u = 0; u < units[b].size(); ++u) {
      const PrecisionUnit& unit = *units[b][u];
      const auto chosen = static_cast<std::size_t>(allocation.choices[b][u]);
      run.report.units.push_back(describe_unit(unit, chosen, blocks[b].error, row));
      row += unit.schemes.size();
      run.schemes.insert(unit.schemes[chosen].begin(), unit.schemes[chosen].end());
      if (chosen == 0) continue;
      run.raised.insert(unit.linears.begin(), unit.linears.end());
      ++run.report.raised;
    }
  }
  run.report.divergence = allocation.error;
  run.report.bits_per_weight = bits_per_weight(allocation.bytes, choice);
  describe_least(blocks, choice, run.report);
  return run;
}

template <typename T>
std::vector<T> take(const std::vector<T>& all, std::int64_t count) {
  return {all.begin(), all.begin() + std::min(count, static_cast<std::int64_t>(all.size()))};
}

}  // namespace

PrecisionRun choose_precision(const DecoderStudy& study,
                              const PrecisionChoice& choice,
                              const DecoderInputs& inputs,
                              std::int64_t samples,
                              SearchJournal& journal,
                              const std::function<bool()>& stop_requested) {
  const BlockPlan& plan = *journal.plan();
  const std::vector<UnitsOfBlock> units = units_of_blocks(choice, plan);
  std::unique_ptr<Sensitivity> sensitivity;  // only where something is left to be measured
  std::vector<AllocationBlock> blocks;
  for (std::size_t b = 0; b < plan.blocks.size(); ++b) {
    AllocationBlock& block = blocks.emplace_back();
    for (const PrecisionUnit* unit : units[b])
      block.bytes.push_back(unit->bytes);
    if (b < journal.precision().size()) {
      block.error = journal.precision()[b];
      continue;
    }
    if (stop_requested && stop_requested()) return {{}, {}, {}, true};
    if (!sensitivity) {
      sensitivity = std::make_unique<Sensitivity>(
          study.root, study.config, take(inputs.exact, samples), take(inputs.kinds, samples), [&] {
            if (study.on_forward) study.on_forward("precision");
          });
      for (std::int64_t layer = 0; layer < plan.blocks[b].first; ++layer)
        sensitivity->advance();
    }
    block.error = measure_block(units[b], plan.blocks[b], *sensitivity);
    journal.add_precision(block.error);
  }
  PrecisionRun run = apply(allocate(blocks, choice, journal), units, blocks, choice);
  run.report.forwards = precision_forwards(choice, study.config.text.layers);
  return run;
}

}  // namespace qvlm
