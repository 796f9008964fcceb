#include "search/decoder_block.h"

namespace qvlm {

DecoderBlock::DecoderBlock(std::vector<TrialLayer*> layers,
                           const Candidates& candidates,
                           const States& input,
                           const std::vector<States>& reference,
                           std::vector<ErrorTerms> terms,
                           std::function<void()> on_forward)
    : layers_(std::move(layers)),
      candidates_(candidates),
      input_(input),
      reference_(reference),
      terms_(std::move(terms)),
      on_forward_(std::move(on_forward)) {}

States DecoderBlock::run(int layer, const Setting& setting, const States& in) {
  States out = layers_[static_cast<std::size_t>(layer)]->run(in, candidates_.clips(setting));
  if (on_forward_) on_forward_();
  return out;
}

double DecoderBlock::error(int layer, const States& out) {
  const auto index = static_cast<std::size_t>(layer);
  return state_error(out, reference_[index], terms_[index]);
}

States run_block(BlockTrial& trial, const std::vector<Setting>& settings) {
  States states = trial.input();
  for (std::size_t i = 0; i < settings.size(); ++i)
    states = trial.run(static_cast<int>(i), settings[i], states);
  return states;
}

}  // namespace qvlm
