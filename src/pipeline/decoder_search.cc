#include "pipeline/decoder_search.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/process_memory.h"
#include "search/answer_logits.h"
#include "search/decoder_block.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One part of the samples on its way through the decoder.
struct Trajectory {
  States exact, rounded;
  std::vector<std::vector<TokenKind>> kinds;
  TokenCounts counts;
};

Trajectory take_half(const Trajectory& all, std::size_t first) {
  return {every_second(all.exact, first), every_second(all.rounded, first),
          every_second(all.kinds, first), all.counts.half(first)};
}

// "0.9", or one value an input where they differ: "0.9/1/0.8/1".
std::string describe_values(const LayerClips& clips, double InputClips::*member) {
  std::string text = join(clips.front().*member);
  const bool same = std::ranges::all_of(
      clips, [&](const InputClips& input) { return input.*member == clips.front().*member; });
  for (std::size_t i = 1; i < clips.size() && !same; ++i)
    text += join("/", clips[i].*member);
  return text;
}

std::string describe_setting(const LayerClips& clips) {
  return "activation " + describe_values(clips, &InputClips::activation) + ", weight " +
         describe_values(clips, &InputClips::weight);
}

class DecoderSearch {
 public:
  DecoderSearch(const DecoderStudy& study, const DecoderInputs& inputs, SearchJournal& journal)
      : study_(study),
        journal_(journal),
        candidates_(study.search, DecoderLayer::kInputs),
        units_(decoder_units(study.config)),
        forward_seconds_(units_.size()) {
    searched_ = {inputs.exact, inputs.rounded, inputs.kinds, count_tokens(study, inputs)};
    if (!study.search.held_out || inputs.exact.size() < 2) return;
    held_out_ = take_half(searched_, 1);
    searched_ = take_half(searched_, 0);
  }

  // Searches the block, or repeats what the journal says of it; moves both trajectories behind it.
  // Returns whether it was searched now.
  bool run(const Block& block);
  // What the decoder as it was rounded does to the answers; behind the last block.
  std::optional<double> measure_answers() const;
  DecoderSearchOutcome take_outcome();

 private:
  using Layers = std::vector<std::unique_ptr<TrialLayer>>;

  Layers load_layers(const Block& block);
  FinishedBlock search(DecoderBlock& trial, const Block& block);
  void check_held_out(const Layers& layers, const States& reference, FinishedBlock& found);
  States run_layers(const Layers& layers, const std::vector<Setting>& settings, States states);
  void advance(const Layers& layers, std::int64_t first, const std::vector<Setting>& settings);
  void round_by_gptq(TrialLayer& layer, std::int64_t index, const LayerClips& clips);
  InputWeights token_weights(std::int64_t layer) const;
  void remember(const Layers& layers, const FinishedBlock& block);
  void count_forward(const char* what) {
    if (study_.on_forward) study_.on_forward(what);
  }

  const DecoderStudy& study_;
  SearchJournal& journal_;
  Candidates candidates_;
  std::vector<Unit> units_;
  std::vector<std::vector<double>> forward_seconds_;  // by layer, one a time it ran in float
  Trajectory searched_, held_out_;
  DecoderSearchOutcome outcome_;
};

DecoderSearch::Layers DecoderSearch::load_layers(const Block& block) {
  Layers layers;
  for (std::int64_t i = block.first; i < block.first + block.depth; ++i) {
    layers.push_back(std::make_unique<TrialLayer>(units_.at(static_cast<std::size_t>(i)),
                                                  study_.root, study_.config, study_.schemes,
                                                  study_.unclipped));
  }
  return layers;
}

bool DecoderSearch::run(const Block& block) {
  const Layers layers = load_layers(block);
  std::vector<States> references;
  std::vector<TrialLayer*> raw;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const States& before = i == 0 ? searched_.exact : references.back();
    const auto start = Clock::now();
    States after = layers[i]->run_float(before);
    forward_seconds_[static_cast<std::size_t>(block.first) + i].push_back(seconds_since(start));
    layers[i]->measure_scales(before, study_.search.activation_clip);
    references.push_back(std::move(after));  // last: `before` lives in it
    raw.push_back(layers[i].get());
  }
  for (const auto& layer : layers)
    held_out_.exact = layer->run_float(held_out_.exact);

  const FinishedBlock* done = journal_.find_block(block.first);
  FinishedBlock found;
  if (done != nullptr) {
    found = *done;
  } else {
    DecoderBlock trial(raw, candidates_, searched_.rounded, references,
                       searched_.counts.terms(block.first, references),
                       [&] { count_forward("search"); });
    found = search(trial, block);
    check_held_out(layers, held_out_.exact, found);
  }
  searched_.exact = std::move(references.back());
  advance(layers, block.first, found.settings);
  if (done == nullptr) {
    const Trajectory& judged = held_out_.exact.empty() ? searched_ : held_out_;
    found.report.token_errors = measure_token_errors(judged.rounded, judged.exact, judged.kinds);
    journal_.add_block(found);
  }
  remember(layers, found);
  return done == nullptr;
}

FinishedBlock DecoderSearch::search(DecoderBlock& trial, const Block& block) {
  const auto start = Clock::now();
  BlockResult result = search_block(trial, candidates_, study_.search);
  outcome_.report.search_seconds += seconds_since(start);
  for (int i = 0; i < block.depth; ++i) {
    outcome_.report.forward_seconds +=
        static_cast<double>(result.forwards) / block.depth *
        median(forward_seconds_[static_cast<std::size_t>(block.first + i)]);
  }
  FinishedBlock found;
  found.report.first = block.first;
  found.report.depth = block.depth;
  found.report.reason = block.reason;
  found.report.greedy_error = result.greedy_error;
  found.report.error = result.error;
  found.report.forwards = result.forwards;
  found.settings = std::move(result.settings);
  const std::vector<Setting> start_settings(found.settings.size(), candidates_.shared().front());
  found.report.start_error = trial.error(block.depth - 1, run_block(trial, start_settings));
  return found;
}

// What the search found has to help on samples that it did not see, or the block stays unclipped.
void DecoderSearch::check_held_out(const Layers& layers,
                                   const States& reference,
                                   FinishedBlock& found) {
  const std::vector<Setting> start(found.settings.size(), candidates_.shared().front());
  if (!held_out_.exact.empty()) {
    const std::int64_t last = found.report.first + found.report.depth - 1;
    const ErrorTerms terms = held_out_.counts.terms(last, reference);
    const auto error = [&](const std::vector<Setting>& settings) {
      return state_error(run_layers(layers, settings, held_out_.rounded), reference, terms);
    };
    found.report.held_out_start = error(start);
    found.report.held_out_error = error(found.settings);
    found.report.kept = found.report.held_out_error <= found.report.held_out_start;
  }
  if (!found.report.kept) found.settings = start;
  for (const Setting& setting : found.settings)
    found.report.choices.push_back(describe_setting(candidates_.clips(setting)));
}

States DecoderSearch::run_layers(const Layers& layers,
                                 const std::vector<Setting>& settings,
                                 States states) {
  for (std::size_t i = 0; i < layers.size(); ++i)
    states = layers[i]->run(states, candidates_.clips(settings[i]));
  return states;
}

// Moves the rounded states behind the layers as they are kept.
void DecoderSearch::advance(const Layers& layers,
                            std::int64_t first,
                            const std::vector<Setting>& settings) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerClips clips = candidates_.clips(settings[i]);
    if (study_.rounding.method == RoundingMethod::kGptq)
      round_by_gptq(*layers[i], first + static_cast<std::int64_t>(i), clips);
    searched_.rounded = layers[i]->run(searched_.rounded, clips);
    held_out_.rounded = layers[i]->run(held_out_.rounded, clips);
  }
}

// What tokens count in the rounding of a layer, in the order of round_by_gptq().
InputWeights DecoderSearch::token_weights(std::int64_t layer) const {
  if (!study_.rounding.by_gradient) {
    std::vector<at::Tensor> weights = searched_.counts.by_kind;
    weights.insert(weights.end(), held_out_.counts.by_kind.begin(), held_out_.counts.by_kind.end());
    return InputWeights(DecoderLayer::kInputs, weights);
  }
  InputWeights weights = study_.importance.inputs.at(static_cast<std::size_t>(layer));
  if (held_out_.exact.empty()) return weights;
  for (std::vector<at::Tensor>& samples : weights) {
    const std::vector<at::Tensor> odd = every_second(samples, 1);
    samples = every_second(samples, 0);
    samples.insert(samples.end(), odd.begin(), odd.end());
  }
  return weights;
}

// On all samples: rounding has no choice that some of them would have to judge.
void DecoderSearch::round_by_gptq(TrialLayer& layer, std::int64_t index, const LayerClips& clips) {
  States states = searched_.rounded;
  states.insert(states.end(), held_out_.rounded.begin(), held_out_.rounded.end());
  outcome_.codes.merge(layer.round_by_gptq(states, token_weights(index), clips, study_.rounding));
}

void DecoderSearch::remember(const Layers& layers, const FinishedBlock& block) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerClips clips = candidates_.clips(block.settings.at(i));
    for (const auto& [name, scheme] : layers[i]->schemes(clips))
      outcome_.schemes[name] = scheme;
    ++outcome_.report.wins[describe_setting(clips)];
  }
  outcome_.report.forwards += block.report.forwards;
  outcome_.report.blocks.push_back(block.report);
}

std::optional<double> DecoderSearch::measure_answers() const {
  const Trajectory& judged = held_out_.exact.empty() ? searched_ : held_out_;
  if (!has_answers(judged.kinds)) return std::nullopt;
  const AnswerLogits answers(study_.root, study_.config, judged.kinds);
  return mean_divergence(answers.log_probabilities(judged.exact),
                         answers.log_probabilities(judged.rounded));
}

DecoderSearchOutcome DecoderSearch::take_outcome() {
  return std::move(outcome_);
}

}  // namespace

DecoderSearchOutcome search_decoder(const DecoderStudy& study,
                                    const DecoderInputs& inputs,
                                    SearchJournal& journal,
                                    const std::function<bool()>& stop_requested) {
  const BlockPlan plan = *journal.plan();
  DecoderSearch search(study, inputs, journal);
  bool stopped = stop_requested && stop_requested();
  for (const Block& block : plan.blocks) {
    if (stopped) break;
    const bool searched_now = search.run(block);
    return_freed_memory();  // that of its layers
    const bool last = block.first + block.depth == study.config.text.layers;
    stopped = searched_now && !last && stop_requested && stop_requested();
  }
  DecoderSearchOutcome outcome = search.take_outcome();
  outcome.stopped = stopped;
  if (!stopped) outcome.report.answer_divergence = search.measure_answers();
  outcome.report.strategy = strategy_name(plan.strategy);
  outcome.report.h0 = plan.h0;
  outcome.report.allowed_forwards = plan.budget;
  outcome.report.planned_forwards = plan.cost;
  outcome.report.entropy = journal.entropy();
  return outcome;
}

}  // namespace qvlm
