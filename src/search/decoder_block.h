// A block of decoder layers on the calibration set: what block_search.h searches.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "search/block_search.h"
#include "search/trial_layer.h"

namespace qvlm {

class DecoderBlock : public BlockTrial {
 public:
  // reference: the float model's states behind each layer, terms: of the errors there; input: as
  // the blocks below left them.
  // on_forward is called after every layer-forward. Layers, candidates and states are not owned.
  DecoderBlock(std::vector<TrialLayer*> layers,
               const Candidates& candidates,
               const States& input,
               const std::vector<States>& reference,
               std::vector<ErrorTerms> terms,
               std::function<void()> on_forward);

  int depth() const override { return static_cast<int>(layers_.size()); }
  const States& input() const override { return input_; }
  States run(int layer, const Setting& setting, const States& in) override;
  double error(int layer, const States& out) override;

 private:
  std::vector<TrialLayer*> layers_;
  const Candidates& candidates_;
  const States& input_;
  const std::vector<States>& reference_;
  std::vector<ErrorTerms> terms_;
  std::function<void()> on_forward_;
};

// The states behind the last layer under these settings.
States run_block(BlockTrial& trial, const std::vector<Setting>& settings);

}  // namespace qvlm
