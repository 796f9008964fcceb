#include "search/linear_rounding.h"

#include <algorithm>

#include "base/parallel.h"
#include "quant/input_rounding.h"
#include "rounding/gptq.h"
#include "rounding/second_moment.h"

namespace qvlm {
namespace {

// Of each linear the first one whose input is the same, rounded alike.
std::vector<std::size_t> find_leaders(const std::vector<LinearToRound>& linears) {
  std::vector<std::size_t> leaders;
  for (const LinearToRound& linear : linears) {
    const auto alike = std::ranges::find_if(linears, [&](const LinearToRound& other) {
      return other.input == linear.input && other.scheme.activation == linear.scheme.activation &&
             other.scheme.input_scale == linear.scheme.input_scale &&
             other.scheme.hadamard_input == linear.scheme.hadamard_input;
    });
    leaders.push_back(static_cast<std::size_t>(alike - linears.begin()));
  }
  return leaders;
}

std::vector<QuantizedTensor> round_to_nearest(const std::vector<LinearToRound>& linears) {
  std::vector<QuantizedTensor> nearest(linears.size());
  for_samples(linears.size(), [&](std::size_t i) {
    nearest[i] = quantize_weight(linears[i].weight, linears[i].scheme.weight, linears[i].storage);
  });
  return nearest;
}

// What the linears read, by leader.
struct InputMoments {
  std::vector<SecondMoment> second;  // weighed; nothing was added where no linear needs them
  std::vector<at::Tensor> sums;      // [in] float64, not weighed
  std::int64_t tokens = 0;
};

class InputWatch {
 public:
  InputWatch(const std::vector<LinearToRound>& linears, const RunWith& run)
      : linears_(linears), run_(run), leaders_(find_leaders(linears)) {
    for (const QuantizedTensor& nearest : round_to_nearest(linears))
      weights_.push_back(nearest.dequantize());
  }

  const std::vector<std::size_t>& leaders() const { return leaders_; }
  // As many samples at a time as there are threads: all inputs of a layer are what memory has to
  // hold of each.
  InputMoments measure(std::size_t samples, const InputWeights& token_weights, bool second) const;

 private:
  // What the products of one sample see, turned and rounded: [tokens, in] by leader.
  States rounded_inputs(std::size_t sample) const;

  const std::vector<LinearToRound>& linears_;
  const RunWith& run_;
  std::vector<std::size_t> leaders_;
  std::vector<at::Tensor> weights_;  // rounded to nearest
};

States InputWatch::rounded_inputs(std::size_t sample) const {
  States seen(linears_.size());
  std::vector<InputRounding> taps(linears_.size());
  std::vector<Linear> watched;
  for (std::size_t i = 0; i < linears_.size(); ++i) {
    InputRounding& tap = taps[leaders_[i]];
    if (!tap) {
      const InputRounding round = make_rounding(linears_[i].scheme, linears_[i].weight.size(1));
      tap = make_rounding(
          [&input = seen[i], round](const at::Tensor& x) { return input = (*round)(x); });
    }
    watched.emplace_back(weights_[i], linears_[i].bias, tap);
  }
  run_(sample, watched);
  return seen;
}

InputMoments InputWatch::measure(std::size_t samples,
                                 const InputWeights& token_weights,
                                 bool second) const {
  InputMoments moments{std::vector<SecondMoment>(linears_.size()), States(linears_.size()), 0};
  const auto batch = static_cast<std::size_t>(thread_count());
  for (std::size_t first = 0; first < samples; first += batch) {
    std::vector<States> inputs(std::min(batch, samples - first)), sums(inputs.size());
    for_samples(inputs.size(), [&](std::size_t i) {
      inputs[i] = rounded_inputs(first + i);
      for (const at::Tensor& input : inputs[i])
        sums[i].push_back(input.defined() ? input.sum(0, false, at::kDouble) : input);
    });
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      moments.tokens += inputs[i].front().size(0);
      for (std::size_t leader = 0; leader < linears_.size(); ++leader) {
        if (!inputs[i][leader].defined()) continue;
        at::Tensor& sum = moments.sums[leader];
        sum = sum.defined() ? sum + sums[i][leader] : sums[i][leader];
        if (!second) continue;
        const std::size_t input = linears_[leader].input;
        const bool weighed = !token_weights.empty() && !token_weights.at(input).empty();
        moments.second[leader].add(inputs[i][leader],
                                   weighed ? token_weights[input][first + i] : at::Tensor());
      }
    }
  }
  return moments;
}

}  // namespace

std::vector<RoundedLinear> round_linears(const std::vector<LinearToRound>& linears,
                                         std::size_t samples,
                                         const RunWith& run,
                                         const InputWeights& weights,
                                         const RoundingOptions& options) {
  if (linears.empty()) return {};
  const c10::InferenceMode no_gradients;
  const bool by_gptq = options.method == RoundingMethod::kGptq;
  const InputWatch watch(linears, run);
  const InputMoments moments = watch.measure(samples, weights, by_gptq);
  const GptqOptions settings{.damping = options.damping, .act_order = options.act_order};
  std::vector<RoundedLinear> rounded;
  // Of the leader before: those who share one stand together, unless their activations alternate.
  std::size_t leader = linears.size();
  GptqFeedback feedback;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const LinearToRound& linear = linears[i];
    if (by_gptq && watch.leaders()[i] != leader)
      feedback = make_gptq_feedback(moments.second[watch.leaders()[i]].matrix(), settings);
    leader = watch.leaders()[i];
    rounded.push_back(
        {by_gptq ? gptq(linear.weight, feedback, linear.scheme.weight, linear.storage, settings)
                 : quantize_weight(linear.weight, linear.scheme.weight, linear.storage),
         moments.sums[leader] / static_cast<double>(moments.tokens)});
  }
  return rounded;
}

}  // namespace qvlm
