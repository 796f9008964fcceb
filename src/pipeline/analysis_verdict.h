// What an analysis says when its numbers are put together: measured gains of blocks, whether the
// cheap numbers predict them, and the one sentence of it all.
#pragma once

#include <qvlm/analyze.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/svg_plot.h"

namespace qvlm {

// Two neighbouring decoder layers whose joint search was measured.
struct Pair {
  std::int64_t first = 0;
  double dependency = 0.0;
  double error = 0.0;      // mean of the two, as the strategy `error` sees them
  double gain = 0.0;       // DED: greedy - joint error
  bool collapsed = false;  // one of them, or both
};

// Whether outliers have left nearly all values of the layer's output one code.
bool is_collapsed(const LayerAnalysis& layer);

// What joint search of a block, or of all blocks of a plan, gains; NaN if not measured.
double measured_gain(const Analysis& analysis, std::int64_t first, int depth);
double measured_gain(const Analysis& analysis, const PlanAnalysis& plan);

std::vector<Pair> measured_pairs(const Analysis& analysis);
// Of a number of the pairs with their gains.
Correlation correlate_pairs(const std::vector<Pair>& pairs, double Pair::*number);

// Null if the strategy was not planned.
const PlanAnalysis* find_plan(const Analysis& analysis, std::string_view strategy);
// How many layers are searched together with another one.
std::int64_t count_joined(const PlanAnalysis& plan);

// One sentence: what the numbers say about planning this model's search.
std::string make_verdict(const Analysis& analysis);

}  // namespace qvlm
