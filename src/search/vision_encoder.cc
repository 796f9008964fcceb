#include "search/vision_encoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace qvlm {
namespace {

void shuffle(Batch& order, Random& random) {
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(i)]);
}

void add_terms(const VisionLoss& terms, double weight, VisionLoss& sum) {
  sum.entropy += weight * terms.entropy;
  sum.tower += weight * terms.tower;
  sum.output += weight * terms.output;
  sum.answer += weight * terms.answer;
  sum.total += weight * terms.total;
}

// Places of the samples with an image that are learned from, and of those set aside.
struct Parts {
  Batch learned, held_out;
};

Parts part_samples(std::size_t samples, bool held_out) {
  Batch all(samples);
  std::iota(all.begin(), all.end(), std::size_t{0});
  if (!held_out || samples < 2) return {all, {}};
  return {every_second(all, 0), every_second(all, 1)};
}

LearnedTower load_tower(const VisionEncoderStudy& study) {
  LearnedTower tower(study.root, study.config, {study.schemes, study.options.norm_gains});
  require(!tower.parameters().empty(), ErrorKind::kInvalidArgument,
          "vision encoder: the recipe quantizes no linear of the vision tower");
  return tower;
}

std::int64_t count_batches(std::size_t samples, std::int64_t size) {
  return (static_cast<std::int64_t>(samples) + size - 1) / size;
}

class VisionEncoderRun {
 public:
  VisionEncoderRun(const VisionEncoderStudy& study, const VisionEncoderState& start)
      : study_(study), tower_(load_tower(study)), loss_(study, tower_), report_(start.report) {
    if (!start.report.epochs.empty()) go_on(start);
  }

  VisionEncoderOutcome run(const EpochCallback& on_epoch);

 private:
  // The loss before the steps, batch by batch.
  VisionLoss learn(const Batch& order, std::size_t epoch);
  void go_on(const VisionEncoderState& start);
  VisionEncoderState state();
  std::optional<VisionLoss> measure(const Batch& samples);
  // Calls use(terms) after each batch; returns the mean over the samples.
  template <typename Use>
  VisionLoss for_batches(const Batch& order, const Use& use);

  const VisionEncoderStudy& study_;
  LearnedTower tower_;
  VisionEncoderLoss loss_;
  Adam adam_;
  VisionReport report_;
};

template <typename Use>
VisionLoss VisionEncoderRun::for_batches(const Batch& order, const Use& use) {
  VisionLoss mean;
  for (const Batch& batch : cut_batches(order, static_cast<std::size_t>(study_.options.batch))) {
    const VisionLoss terms = loss_.evaluate(batch);
    use(terms);
    add_terms(terms, static_cast<double>(batch.size()) / static_cast<double>(order.size()), mean);
    if (study_.on_step) study_.on_step("vision encoder");
  }
  return mean;
}

VisionLoss VisionEncoderRun::learn(const Batch& order, std::size_t epoch) {
  const std::int64_t total =
      study_.options.epochs * count_batches(order.size(), study_.options.batch);
  return for_batches(order, [&](const VisionLoss& terms) {
    require(std::isfinite(terms.total), ErrorKind::kCorrupt,
            "vision encoder: the loss is not finite in epoch ", epoch + 1);
    // Falls to 0: with clips at a steady rate the loss rises again after a few epochs.
    const double left = 1.0 - static_cast<double>(adam_.state().steps) / static_cast<double>(total);
    adam_.step(tower_.parameters(), study_.options.rate * left);
  });
}

std::optional<VisionLoss> VisionEncoderRun::measure(const Batch& samples) {
  if (samples.empty()) return std::nullopt;
  VisionLoss mean = for_batches(samples, [](const VisionLoss&) {});
  tower_.clear_gradients();
  // So that it is the same when it was written and read again.
  if (!std::isfinite(mean.total)) mean.total = std::numeric_limits<double>::infinity();
  return mean;
}

// `start` may have been read from a file.
void VisionEncoderRun::go_on(const VisionEncoderState& start) {
  const auto fits = [](bool condition) {
    require(condition, ErrorKind::kCorrupt,
            "vision encoder: the state to go on from is of another run");
  };
  std::vector<Parameter>& parameters = tower_.parameters();
  const std::size_t count = parameters.size();
  fits(start.logarithms.size() == count && start.adam.means.size() == count &&
       start.adam.squares.size() == count);
  AdamState adam{start.adam.steps, {}, {}};
  for (std::size_t i = 0; i < count; ++i) {
    at::Tensor& logarithm = parameters[i].logarithm;
    const auto shaped = [&](const at::Tensor& values) {
      fits(values.numel() == logarithm.numel());
      return values.reshape(logarithm.sizes());
    };
    adam.means.push_back(shaped(start.adam.means[i]));
    adam.squares.push_back(shaped(start.adam.squares[i]));
    logarithm = shaped(start.logarithms[i]);
  }
  adam_ = Adam(std::move(adam));
}

VisionEncoderState VisionEncoderRun::state() {
  VisionEncoderState state{{}, adam_.state(), report_};
  for (const Parameter& parameter : tower_.parameters())
    state.logarithms.push_back(parameter.logarithm);
  return state;
}

VisionEncoderOutcome VisionEncoderRun::run(const EpochCallback& on_epoch) {
  const VisionEncoderOptions& options = study_.options;
  const auto [learned, held_out] = part_samples(loss_.samples(), options.held_out);
  const std::size_t done = report_.epochs.size();
  if (done == 0) report_.held_out_start = measure(held_out);
  Random random(options.seed);
  Batch order = learned;
  for (std::size_t epoch = 0; std::cmp_less(epoch, options.epochs); ++epoch) {
    shuffle(order, random);  // epochs that are done too: each begins with the order of the last
    if (epoch < done) continue;
    report_.epochs.push_back(learn(order, epoch));
    if (on_epoch && !on_epoch(state())) return {{}, {}, {}, /*stopped=*/true};
  }
  report_.held_out_end = measure(held_out);
  report_.kept =
      !report_.held_out_end || (std::isfinite(report_.held_out_end->total) &&
                                report_.held_out_end->total <= report_.held_out_start->total);
  if (!report_.kept) return {{}, {}, std::move(report_)};
  return {tower_.schemes(), tower_.norm_gains(), std::move(report_)};
}

}  // namespace

std::int64_t count_steps(const VisionEncoderStudy& study, const VisionEncoderState& start) {
  const auto samples = static_cast<std::size_t>(std::ranges::count_if(
      study.samples, [](const StreamedSample& sample) { return sample.pixels.defined(); }));
  const VisionEncoderOptions& options = study.options;
  const auto [learned, held_out] = part_samples(samples, options.held_out);
  const std::int64_t weights =
      options.entropy_weight != 0.0 ? count_batches(samples, options.batch) : 0;
  const auto done = static_cast<std::int64_t>(start.report.epochs.size());
  return weights + (options.epochs - done) * count_batches(learned.size(), options.batch) +
         (done == 0 ? 2 : 1) * count_batches(held_out.size(), options.batch);
}

VisionEncoderOutcome optimize_vision_encoder(const VisionEncoderStudy& study,
                                             const VisionEncoderState& start,
                                             const EpochCallback& on_epoch) {
  return VisionEncoderRun(study, start).run(on_epoch);
}

}  // namespace qvlm
