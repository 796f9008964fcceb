#include "search/vision_encoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "search/adam.h"

namespace qvlm {
namespace {

void shuffle(Batch& order, Random& random) {
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(i)]);
}

void add_terms(const LossTerms& terms, double weight, LossTerms& sum) {
  sum.entropy += weight * terms.entropy;
  sum.tower += weight * terms.tower;
  sum.output += weight * terms.output;
  sum.answer += weight * terms.answer;
  sum.total += weight * terms.total;
}

}  // namespace

std::int64_t count_steps(const VisionEncoderStudy& study) {
  const std::int64_t samples = std::ranges::count_if(
      study.samples, [](const StreamedSample& sample) { return sample.pixels.defined(); });
  const VisionEncoderOptions& options = study.options;
  const std::int64_t batches = (samples + options.batch - 1) / options.batch;
  return batches * (options.epochs + (options.entropy_weight != 0.0 ? 1 : 0));
}

VisionEncoderOutcome optimize_vision_encoder(const VisionEncoderStudy& study) {
  const VisionEncoderOptions& options = study.options;
  LearnedTower tower(study.root, study.config, {study.schemes, options.norm_gains});
  require(!tower.parameters().empty(), ErrorKind::kInvalidArgument,
          "vision encoder: the recipe quantizes no linear of the vision tower");
  VisionEncoderLoss loss(study, tower);
  Adam adam(options.rate);
  Random random(options.seed);
  Batch order(loss.samples());
  std::iota(order.begin(), order.end(), std::size_t{0});
  VisionEncoderOutcome outcome;
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    shuffle(order, random);
    LossTerms mean;
    for (const Batch& batch : cut_batches(order, static_cast<std::size_t>(options.batch))) {
      const LossTerms terms = loss.evaluate(batch);
      require(std::isfinite(terms.total), ErrorKind::kCorrupt,
              "vision encoder: the loss is not finite in epoch ", epoch + 1);
      adam.step(tower.parameters());
      const auto share = static_cast<double>(batch.size()) / static_cast<double>(order.size());
      add_terms(terms, share, mean);
      if (study.on_step) study.on_step("vision encoder");
    }
    outcome.epochs.push_back(mean);
  }
  outcome.schemes = tower.schemes();
  outcome.norm_gains = tower.norm_gains();
  return outcome;
}

}  // namespace qvlm
