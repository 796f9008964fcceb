#include "search/vision_encoder_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "search/differentiate.h"
#include "search/entropy_gradient.h"

namespace qvlm {
namespace {

States zeros_like(const States& states) {
  return map_states(states, [](const at::Tensor& x) { return at::zeros_like(x); });
}

States pick(const VisionReference& reference,
            const Batch& batch,
            at::Tensor VisionSample::*member) {
  States states;
  for (const std::size_t i : batch)
    states.push_back(reference.samples[i].*member);
  return states;
}

// Tokens of a state that count in errors begin here.
enum class Tokens { kAll, kAllButFirst };

std::int64_t first_token(const at::Tensor& state, Tokens which) {
  return which == Tokens::kAllButFirst && state.size(0) > 1 ? 1 : 0;
}

std::int64_t count_tokens(const States& states, Tokens which) {
  std::int64_t count = 0;
  for (const at::Tensor& state : states)
    count += state.size(0) - first_token(state, which);
  return count;
}

// The mean over tokens of |difference|^2 / |reference|^2; adds `weight` times its gradient.
double add_relative_error(const States& states,
                          const States& references,
                          Tokens which,
                          double weight,
                          States& gradients) {
  const auto tokens = static_cast<double>(count_tokens(states, which));
  std::vector<double> errors(states.size());
  for_samples(states.size(), [&](std::size_t i) {
    const std::int64_t first = first_token(states[i], which);
    const at::Tensor want = references[i].slice(0, first);
    const at::Tensor norms = want.square().sum(-1).clamp_min(std::numeric_limits<float>::min());
    const Differential error = differentiate(states[i], [&](const at::Tensor& x) {
      return ((x.slice(0, first) - want).square().sum(-1) / norms).sum(at::kDouble) / tokens;
    });
    errors[i] = error.value;
    gradients[i] = gradients[i] + weight * error.gradient;
  });
  return std::accumulate(errors.begin(), errors.end(), 0.0);
}

void add_scaled(const States& from, double weight, States& to) {
  for (std::size_t i = 0; i < to.size(); ++i)
    to[i] = to[i] + weight * from[i];
}

double square_norm(const States& states) {
  std::vector<double> squares(states.size());
  for_samples(states.size(), [&](std::size_t i) {
    squares[i] = states[i].square().sum(at::kDouble).item<double>();
  });
  return std::accumulate(squares.begin(), squares.end(), 0.0);
}

// The weighted sum of entropies, and its gradient on the way down the decoder.
class EntropyTerm {
 public:
  // References are not owned. scale: of the term in the loss.
  EntropyTerm(const std::vector<States>& trajectory,
              const std::vector<EntropyGrid>& grids,
              const std::vector<double>& weights,
              double scale)
      : trajectory_(trajectory), grids_(grids), weights_(weights), scale_(scale) {}

  // Adds the gradient at trajectory[i], the output of layer i - 1. Must be called from the last
  // state to the first output, as each depends on the one above and the one below.
  void add_gradient(std::size_t i, States& gradients) {
    if (!from_above_.empty()) add_scaled(from_above_, 1.0, gradients);
    if (i < 2) return;
    const EntropyGradient pair =
        differentiate_entropy({trajectory_[i - 1], grids_[i - 2]}, {trajectory_[i], grids_[i - 1]});
    const double weight = weights_[i - 2];
    value_ += weight * pair.entropy;
    add_scaled(pair.above, scale_ * weight, gradients);
    from_above_ = map_states(pair.below, [&](const at::Tensor& x) { return scale_ * weight * x; });
  }

  double value() const { return value_; }

 private:
  const std::vector<States>& trajectory_;
  const std::vector<EntropyGrid>& grids_;
  const std::vector<double>& weights_;
  double scale_;
  double value_ = 0.0;
  States from_above_;  // gradient at the next state down
};

}  // namespace

std::vector<Batch> cut_batches(const Batch& order, std::size_t size) {
  std::vector<Batch> batches;
  for (std::size_t begin = 0; begin < order.size(); begin += size) {
    const std::size_t end = std::min(order.size(), begin + size);
    batches.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(begin),
                         order.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return batches;
}

VisionEncoderLoss::VisionEncoderLoss(const VisionEncoderStudy& study, LearnedTower& tower)
    : study_(study),
      tower_(tower),
      decoder_(study.root, study.config),
      reference_(run_reference(study)) {
  if (study.options.entropy_weight != 0.0) weights_ = measure_weights();
}

States VisionEncoderLoss::place_images(const Batch& batch, const States& images) const {
  States inputs;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const VisionSample& sample = reference_.samples[batch[i]];
    inputs.push_back(sample.inputs.index_copy(0, sample.image_positions, images[i]));
  }
  return inputs;
}

std::vector<double> VisionEncoderLoss::measure_weights() {
  const std::size_t pairs = decoder_.layers() - 1;
  Batch all(samples());
  std::iota(all.begin(), all.end(), std::size_t{0});
  const auto tokens = static_cast<double>(
      count_tokens(pick(reference_, all, &VisionSample::output), Tokens::kAllButFirst));
  std::vector<double> norms(pairs);
  for (const Batch& batch : cut_batches(all, static_cast<std::size_t>(study_.options.batch))) {
    const VisionTrace vision = tower_.run(pick(reference_, batch, &VisionSample::embedded));
    const std::vector<States> trajectory = decoder_.run(place_images(batch, vision.images));
    const States want = pick(reference_, batch, &VisionSample::output);
    const auto share = static_cast<double>(count_tokens(want, Tokens::kAllButFirst)) / tokens;
    States gradients = zeros_like(want);
    add_relative_error(trajectory.back(), want, Tokens::kAllButFirst, share, gradients);
    decoder_.pull_back_to_inputs(trajectory, gradients, [&](std::size_t i, const States& own) {
      if (i <= pairs) norms[i - 1] += square_norm(own);
    });
    if (study_.on_step) study_.on_step("vision encoder");
  }
  for (double& norm : norms)
    norm = std::sqrt(norm);
  const double mean = std::accumulate(norms.begin(), norms.end(), 0.0) / static_cast<double>(pairs);
  for (double& norm : norms)
    norm = mean > 0.0 ? norm / mean : 1.0;
  return norms;
}

double VisionEncoderLoss::add_answer_loss(const Batch& batch,
                                          const States& outputs,
                                          States& gradients) const {
  std::int64_t tokens = 0;
  for (const std::size_t i : batch)
    tokens += reference_.samples[i].answer_ids.size(0);
  if (tokens == 0) return 0.0;
  const Head head = decoder_.load_head();
  std::vector<double> losses(batch.size());
  for_samples(batch.size(), [&](std::size_t i) {
    const VisionSample& sample = reference_.samples[batch[i]];
    if (sample.answer_ids.size(0) == 0) return;
    const Differential loss = differentiate(outputs[i], [&](const at::Tensor& x) {
      const at::Tensor logits = head.forward(x.index_select(0, sample.before_answer));
      return at::cross_entropy_loss(logits, sample.answer_ids, {}, at::Reduction::Sum) / tokens;
    });
    losses[i] = loss.value;
    gradients[i] = gradients[i] + study_.options.answer_weight * loss.gradient;
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

void VisionEncoderLoss::add_decoder_terms(const Batch& batch,
                                          const States& images,
                                          VisionLoss& terms,
                                          States& gradients) const {
  const VisionEncoderOptions& options = study_.options;
  const std::vector<States> trajectory = decoder_.run(place_images(batch, images));
  States at_states = zeros_like(trajectory.back());
  const double output_weight = options.error_weight * options.output_weight;
  if (output_weight != 0.0) {
    terms.output =
        add_relative_error(trajectory.back(), pick(reference_, batch, &VisionSample::output),
                           Tokens::kAllButFirst, output_weight, at_states);
  }
  if (options.answer_weight != 0.0)
    terms.answer = add_answer_loss(batch, trajectory.back(), at_states);
  EntropyTerm entropy(trajectory, reference_.grids, weights_, options.entropy_weight);
  at_states = decoder_.pull_back_to_inputs(trajectory, std::move(at_states),
                                           [&](std::size_t i, States& at_output) {
                                             if (options.entropy_weight != 0.0)
                                               entropy.add_gradient(i, at_output);
                                           });
  terms.entropy = entropy.value();
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const at::Tensor& positions = reference_.samples[batch[i]].image_positions;
    gradients[i] = gradients[i] + at_states[i].index_select(0, positions);
  }
}

VisionLoss VisionEncoderLoss::evaluate(const Batch& batch) {
  const VisionEncoderOptions& options = study_.options;
  const VisionTrace vision = tower_.run(pick(reference_, batch, &VisionSample::embedded));
  VisionLoss terms;
  States gradients = zeros_like(vision.images);
  const double tower_weight = options.error_weight * options.tower_weight;
  if (tower_weight != 0.0) {
    terms.tower = add_relative_error(vision.images, pick(reference_, batch, &VisionSample::images),
                                     Tokens::kAll, tower_weight, gradients);
  }
  if (needs_decoder(options)) add_decoder_terms(batch, vision.images, terms, gradients);
  tower_.pull_back(vision, gradients);
  terms.total = options.error_weight *
                    (options.tower_weight * terms.tower + options.output_weight * terms.output) +
                options.entropy_weight * terms.entropy + options.answer_weight * terms.answer;
  return terms;
}

}  // namespace qvlm
