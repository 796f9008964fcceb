// The joint search of one block: which setting of each of its layers makes the error at the block's
// output smallest (Q-VLM, section 3.2). Knows layers only as something that runs, so that it can be
// held against brute force on a toy.
#pragma once

#include <qvlm/recipe.h>

#include <cstdint>
#include <map>
#include <vector>

#include "search/candidates.h"
#include "search/states.h"

namespace qvlm {

// The layers of a block on the calibration set.
class BlockTrial {
 public:
  virtual ~BlockTrial() = default;

  virtual int depth() const = 0;
  // The states before the first layer, as the blocks below left them.
  virtual const States& input() const = 0;
  // Runs layer `layer` of the block with a setting.
  virtual States run(int layer, const Setting& setting, const States& in) = 0;
  // Error of the states behind `layer` against the float model.
  virtual double error(int layer, const States& out) = 0;
};

struct BlockResult {
  std::vector<Setting> settings;  // chosen, one a layer
  double error = 0.0;             // of them, at the block's output
  // One layer after the other, each by the error at its own output: what a search without blocks
  // finds from the same inputs. `error` is never above greedy_error.
  std::vector<Setting> greedy;
  double greedy_error = 0.0;
  std::int64_t forwards = 0;  // layer-forwards that it took
};

// Searches by the method of the options. Of equal errors the less clipped combination wins (the
// first in the order of Candidates::shared()), so results repeat bit for bit.
BlockResult search_block(BlockTrial& trial,
                         const Candidates& candidates,
                         const SearchOptions& options);

// Errors of every combination of shared candidates, by the candidates chosen so far (their places
// in Candidates::shared()): a common beginning is run once, so that depth 3 with 5 candidates takes
// 155 layer-forwards. Keys of length d hold the errors behind layer d - 1, so one tree answers for
// all depths up to the block's.
using ErrorTree = std::map<std::vector<int>, double>;
ErrorTree measure_error_tree(BlockTrial& trial, const Candidates& candidates);

// The best combination of the first `depth` layers in a tree, and the greedy one.
struct TreeChoice {
  std::vector<int> best, greedy;
  double best_error = 0.0, greedy_error = 0.0;
};
TreeChoice choose(const ErrorTree& tree, int depth);

}  // namespace qvlm
