#include "search/coordinate_descent.h"

namespace qvlm {
namespace {

class Descent {
 public:
  Descent(BlockTrial& trial, const Candidates& candidates, BlockResult start)
      : trial_(trial), axes_(candidates.axes()), result_(std::move(start)) {
    before_.push_back(trial.input());
    for (int layer = 0; layer + 1 < trial.depth(); ++layer) {
      before_.push_back(trial_.run(layer, setting(layer), before_.back()));
      ++result_.forwards;
    }
  }

  BlockResult run() {
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      bool changed = false;
      for (int layer = 0; layer < trial_.depth(); ++layer) {
        changed = improve_layer(layer) || changed;
        if (changed) refresh(layer);
      }
      if (!changed) break;
    }
    return std::move(result_);
  }

 private:
  Setting& setting(int layer) { return result_.settings[static_cast<std::size_t>(layer)]; }

  bool improve_layer(int layer) {
    bool changed = false;
    for (std::size_t axis = 0; axis < axes_.size(); ++axis) {
      const int kept = setting(layer)[axis];
      for (int value = 0; value < axes_[axis]; ++value) {
        if (value != kept && value != setting(layer)[axis])
          changed = try_value(layer, axis, value) || changed;
      }
    }
    return changed;
  }

  // Keeps the value if the block's error falls.
  bool try_value(int layer, std::size_t axis, int value) {
    const int old = setting(layer)[axis];
    setting(layer)[axis] = value;
    States states = before_[static_cast<std::size_t>(layer)];
    for (int i = layer; i < trial_.depth(); ++i) {
      states = trial_.run(i, setting(i), states);
      ++result_.forwards;
    }
    const double error = trial_.error(trial_.depth() - 1, states);
    if (error < result_.error) {
      result_.error = error;
      return true;
    }
    setting(layer)[axis] = old;
    return false;
  }

  // The states that the next layer begins with.
  void refresh(int layer) {
    if (layer + 1 >= trial_.depth()) return;
    const auto place = static_cast<std::size_t>(layer);
    before_[place + 1] = trial_.run(layer, setting(layer), before_[place]);
    ++result_.forwards;
  }

  BlockTrial& trial_;
  std::vector<int> axes_;
  BlockResult result_;
  std::vector<States> before_;  // each layer
};

}  // namespace

BlockResult search_by_descent(BlockTrial& trial, const Candidates& candidates, BlockResult start) {
  return Descent(trial, candidates, std::move(start)).run();
}

}  // namespace qvlm
