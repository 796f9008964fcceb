#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace qvlm {
namespace {

struct Candidate {
  std::int32_t id;
  double weight;  // unnormalized probability
};

// Highest weight first; equal weights in id order, so that results repeat.
void sort_candidates(std::vector<Candidate>& candidates) {
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  });
}

double total_weight(const std::vector<Candidate>& candidates) {
  return std::accumulate(
      candidates.begin(), candidates.end(), 0.0,
      [](double sum, const Candidate& candidate) { return sum + candidate.weight; });
}

// Keeps the smallest set of likeliest candidates whose share reaches top_p.
void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  const double enough = top_p * total_weight(candidates);
  double sum = 0.0;
  std::size_t kept = 0;
  while (kept < candidates.size() && sum < enough)
    sum += candidates[kept++].weight;
  candidates.resize(std::max<std::size_t>(kept, 1));
}

}  // namespace

Sampler::Sampler(const GenerateOptions& options) : options_(options), random_(options.seed) {
  require(options.temperature >= 0.0, ErrorKind::kInvalidArgument,
          "temperature must not be negative, got ", options.temperature);
  require(options.top_k >= 0, ErrorKind::kInvalidArgument, "top_k must not be negative, got ",
          options.top_k);
  require(options.top_p > 0.0 && options.top_p <= 1.0, ErrorKind::kInvalidArgument,
          "top_p must be above 0 and at most 1, got ", options.top_p);
}

std::int32_t Sampler::pick(const at::Tensor& logits) {
  const at::Tensor row = logits.contiguous();
  const float* values = row.const_data_ptr<float>();
  const float* end = values + row.numel();
  const auto damaged = [](float value) { return std::isnan(value) || value == HUGE_VALF; };
  require(std::none_of(values, end, damaged), ErrorKind::kCorrupt,
          "the model computed NaN or infinite logits: its weights are damaged or overflow");
  const float* best = std::max_element(values, end);
  require(*best > -HUGE_VALF, ErrorKind::kCorrupt,
          "the model computed logits that are all -infinity: its weights are damaged or overflow");
  if (options_.temperature == 0.0) return static_cast<std::int32_t>(best - values);

  std::vector<Candidate> candidates;
  for (const float* value = values; value != end; ++value) {
    candidates.push_back({static_cast<std::int32_t>(value - values),
                          std::exp((*value - *best) / options_.temperature)});
  }
  sort_candidates(candidates);
  const auto top_k = static_cast<std::size_t>(options_.top_k);
  if (top_k > 0 && top_k < candidates.size()) candidates.resize(top_k);
  keep_top_p(candidates, options_.top_p);

  double left = random_.uniform() * total_weight(candidates);
  for (const Candidate& candidate : candidates) {
    left -= candidate.weight;
    if (left < 0.0) return candidate.id;
  }
  return candidates.back().id;
}

}  // namespace qvlm
