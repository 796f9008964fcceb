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
      return other.input == linear.input && rounds_input_alike(other.scheme, linear.scheme);
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

// What linears read when the layer runs on codes of theirs.
class InputWatch {
 public:
  // leaders: see find_leaders(). Nothing but the codes' values is copied.
  InputWatch(const std::vector<LinearToRound>& linears,
             const std::vector<std::size_t>& leaders,
             const std::vector<QuantizedTensor>& codes,
             const RunWith& run)
      : linears_(linears), leaders_(leaders), run_(run) {
    for (const QuantizedTensor& one : codes)
      weights_.push_back(one.dequantize());
  }

  // What the products of one sample see, turned and rounded: [tokens, in] by leader.
  States rounded_inputs(std::size_t sample) const;

 private:
  const std::vector<LinearToRound>& linears_;
  const std::vector<std::size_t>& leaders_;
  const RunWith& run_;
  std::vector<at::Tensor> weights_;
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

// By leader. As many samples at a time as there are threads: all inputs of a layer are what memory
// has to hold of each.
std::vector<SecondMoment> measure_moments(const std::vector<LinearToRound>& linears,
                                          const InputWatch& watch,
                                          std::size_t samples,
                                          const InputWeights& token_weights) {
  std::vector<SecondMoment> moments(linears.size());
  const auto batch = static_cast<std::size_t>(thread_count());
  for (std::size_t first = 0; first < samples; first += batch) {
    std::vector<States> inputs(std::min(batch, samples - first));
    for_samples(inputs.size(), [&](std::size_t i) { inputs[i] = watch.rounded_inputs(first + i); });
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      for (std::size_t leader = 0; leader < linears.size(); ++leader) {
        if (!inputs[i][leader].defined()) continue;
        const std::size_t input = linears[leader].input;
        const bool weighed = !token_weights.empty() && !token_weights.at(input).empty();
        moments[leader].add(inputs[i][leader],
                            weighed ? token_weights[input][first + i] : at::Tensor());
      }
    }
  }
  return moments;
}

// [in] float64, over the tokens of all samples.
at::Tensor mean_input(const InputWatch& watch, std::size_t leader, std::size_t samples) {
  std::vector<at::Tensor> sums(samples);
  std::vector<std::int64_t> tokens(samples);
  for_samples(samples, [&](std::size_t i) {
    const at::Tensor input = watch.rounded_inputs(i)[leader];
    sums[i] = input.sum(0, /*keepdim=*/false, at::kDouble);
    tokens[i] = input.size(0);
  });
  at::Tensor sum = sums.front();
  std::int64_t all = tokens.front();
  for (std::size_t i = 1; i < samples; ++i) {
    sum = sum + sums[i];
    all += tokens[i];
  }
  return sum / static_cast<double>(all);
}

// REQUIRES: the linear has a bias. On one thread, as sums of several come in another order.
at::Tensor correct_bias(const LinearToRound& linear,
                        const QuantizedTensor& codes,
                        const at::Tensor& mean) {
  at::Tensor corrected;
  for_each_apart(1, [&](std::int64_t) {
    const at::Tensor error = linear.weight - codes.dequantize();
    const at::Tensor shift = at::mv(error.to(at::kDouble), mean);
    corrected = (linear.bias.to(at::kDouble) + shift).to(at::kFloat);
  });
  return corrected;
}

}  // namespace

std::vector<QuantizedTensor> round_linears(const std::vector<LinearToRound>& linears,
                                           std::size_t samples,
                                           const RunWith& run,
                                           const InputWeights& weights,
                                           const RoundingOptions& options) {
  if (linears.empty()) return {};
  const c10::InferenceMode no_gradients;
  std::vector<QuantizedTensor> rounded = round_to_nearest(linears);
  if (options.method == RoundingMethod::kNearest) return rounded;
  const std::vector<std::size_t> leaders = find_leaders(linears);
  const std::vector<SecondMoment> moments =
      measure_moments(linears, InputWatch(linears, leaders, rounded, run), samples, weights);
  const GptqOptions settings{.damping = options.damping, .act_order = options.act_order};
  // Of the leader before: those who share one stand together, unless their activations alternate.
  std::size_t leader = linears.size();
  GptqFeedback feedback;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const LinearToRound& linear = linears[i];
    if (leaders[i] != leader) feedback = make_gptq_feedback(moments[leaders[i]].matrix(), settings);
    leader = leaders[i];
    rounded[i] = gptq(linear.weight, feedback, linear.scheme.weight, linear.storage, settings);
  }
  return rounded;
}

std::vector<at::Tensor> correct_biases(std::vector<LinearToRound> linears,
                                       const std::vector<QuantizedTensor>& codes,
                                       std::size_t samples,
                                       const RunWith& run) {
  const c10::InferenceMode no_gradients;
  const std::vector<std::size_t> leaders = find_leaders(linears);
  const InputWatch watch(linears, leaders, codes, run);  // sees the biases as they are corrected
  for (std::size_t leader = 0; leader < linears.size(); ++leader) {
    at::Tensor mean;  // measured before the first of those who read it is corrected
    for (std::size_t i = leader; i < linears.size(); ++i) {
      if (leaders[i] != leader || !linears[i].bias.defined()) continue;
      if (!mean.defined()) mean = mean_input(watch, leader, samples);
      linears[i].bias = correct_bias(linears[i], codes[i], mean);
    }
  }
  std::vector<at::Tensor> biases;
  for (const LinearToRound& linear : linears)
    biases.push_back(linear.bias);
  return biases;
}

}  // namespace qvlm
