#include "search/block_search.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "search/coordinate_descent.h"

namespace qvlm {
namespace {

std::vector<Setting> settings_of(const std::vector<int>& choice, const Candidates& candidates) {
  std::vector<Setting> settings;
  for (const int place : choice)
    settings.push_back(candidates.shared()[static_cast<std::size_t>(place)]);
  return settings;
}

std::vector<int> extended(std::vector<int> choice, int last) {
  choice.push_back(last);
  return choice;
}

// Depth first: at any time the states of one beginning of each length are kept.
void grow_tree(BlockTrial& trial,
               const Candidates& candidates,
               const std::vector<int>& choice,
               const States& states,
               ErrorTree& tree) {
  const auto layer = static_cast<int>(choice.size());
  for (int place = 0; place < static_cast<int>(candidates.shared().size()); ++place) {
    const States out =
        trial.run(layer, candidates.shared()[static_cast<std::size_t>(place)], states);
    const std::vector<int> longer = extended(choice, place);
    tree[longer] = trial.error(layer, out);
    if (layer + 1 < trial.depth()) grow_tree(trial, candidates, longer, out, tree);
  }
}

BlockResult search_exhaustively(BlockTrial& trial, const Candidates& candidates) {
  const ErrorTree tree = measure_error_tree(trial, candidates);
  const TreeChoice choice = choose(tree, trial.depth());
  return {settings_of(choice.best, candidates), choice.best_error,
          settings_of(choice.greedy, candidates), choice.greedy_error,
          static_cast<std::int64_t>(tree.size())};
}

// A beginning that a beam keeps.
struct Beginning {
  std::vector<int> choice;
  States states;
  double error = 0.0;
  bool greedy = false;
};

// Keeps the `width` best of equal length, and the greedy one whatever its place.
void narrow(std::vector<Beginning>& beam, std::size_t width) {
  std::stable_sort(beam.begin(), beam.end(),
                   [](const Beginning& a, const Beginning& b) { return a.error < b.error; });
  if (beam.size() <= width) return;
  const auto greedy =
      std::find_if(beam.begin(), beam.end(), [](const Beginning& one) { return one.greedy; });
  const auto last = beam.begin() + static_cast<std::ptrdiff_t>(width) - 1;
  if (greedy > last) std::iter_swap(last, greedy);
  beam.resize(width);
}

// Runs every candidate behind a beginning; of those behind the greedy one the best is greedy.
void extend(BlockTrial& trial,
            const Candidates& candidates,
            const Beginning& from,
            const States& states,
            std::vector<Beginning>& longer) {
  const auto layer = static_cast<int>(from.choice.size());
  const std::size_t first = longer.size();
  for (int place = 0; place < static_cast<int>(candidates.shared().size()); ++place) {
    States out = trial.run(layer, candidates.shared()[static_cast<std::size_t>(place)], states);
    const double error = trial.error(layer, out);
    longer.push_back({extended(from.choice, place), std::move(out), error, false});
  }
  if (!from.greedy) return;
  std::min_element(longer.begin() + static_cast<std::ptrdiff_t>(first), longer.end(),
                   [](const Beginning& a, const Beginning& b) { return a.error < b.error; })
      ->greedy = true;
}

BlockResult search_beam(BlockTrial& trial, const Candidates& candidates, int width) {
  require(width >= 1, ErrorKind::kInvalidArgument, "search: beam_width must be positive");
  BlockResult result;
  std::vector<Beginning> beam = {{{}, {}, 0.0, true}};
  for (int layer = 0; layer < trial.depth(); ++layer) {
    std::vector<Beginning> longer;
    for (const Beginning& from : beam)
      extend(trial, candidates, from, layer == 0 ? trial.input() : from.states, longer);
    result.forwards += static_cast<std::int64_t>(longer.size());
    beam = std::move(longer);
    narrow(beam, static_cast<std::size_t>(width));
  }
  result.settings = settings_of(beam.front().choice, candidates);
  result.error = beam.front().error;
  for (const Beginning& one : beam) {
    if (!one.greedy) continue;
    result.greedy = settings_of(one.choice, candidates);
    result.greedy_error = one.error;
  }
  return result;
}

}  // namespace

ErrorTree measure_error_tree(BlockTrial& trial, const Candidates& candidates) {
  ErrorTree tree;
  grow_tree(trial, candidates, {}, trial.input(), tree);
  return tree;
}

TreeChoice choose(const ErrorTree& tree, int depth) {
  TreeChoice result;
  result.best_error = std::numeric_limits<double>::infinity();
  for (const auto& [choice, error] : tree) {  // in order: of equals the less clipped comes first
    if (static_cast<int>(choice.size()) != depth) continue;
    if (result.best.empty() || error < result.best_error) {
      result.best = choice;
      result.best_error = error;
    }
  }
  for (int layer = 0; layer < depth; ++layer) {
    auto child = tree.find(extended(result.greedy, 0));
    std::vector<int> best = child->first;
    result.greedy_error = child->second;
    for (int place = 1; (child = tree.find(extended(result.greedy, place))) != tree.end();
         ++place) {
      if (child->second >= result.greedy_error) continue;
      best = child->first;
      result.greedy_error = child->second;
    }
    result.greedy = best;
  }
  return result;
}

BlockResult search_block(BlockTrial& trial,
                         const Candidates& candidates,
                         const SearchOptions& options) {
  switch (options.method) {
    case SearchMethod::kExhaustive:
      return search_exhaustively(trial, candidates);
    case SearchMethod::kBeam:
      return search_beam(trial, candidates, options.beam_width);
    case SearchMethod::kDescent:
      return search_by_descent(trial, candidates, search_beam(trial, candidates, /*width=*/1));
  }
  fail(ErrorKind::kInternal, "search: unknown method");
}

}  // namespace qvlm
