#include "search/token_errors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace qvlm {
namespace {

struct Mean {
  double sum = 0.0;
  std::int64_t count = 0;

  double value() const {
    const double mean = count == 0 ? 0.0 : sum / static_cast<double>(count);
    return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
  }
};

// What an error at this position touches: one that predicts a token of the answer counts as answer,
// the last one of the question among them; one of the answer that predicts nothing as text.
TokenKind judged_kind(const std::vector<TokenKind>& kinds, std::size_t position) {
  if (predicts_answer(kinds, position)) return TokenKind::kAnswer;
  return kinds[position] == TokenKind::kAnswer ? TokenKind::kText : kinds[position];
}

}  // namespace

bool predicts_answer(const std::vector<TokenKind>& kinds, std::size_t position) {
  return position + 1 < kinds.size() && kinds[position + 1] == TokenKind::kAnswer;
}

bool has_answers(const std::vector<std::vector<TokenKind>>& kinds) {
  return std::ranges::any_of(kinds, [](const std::vector<TokenKind>& sample) {
    for (std::size_t t = 0; t < sample.size(); ++t) {
      if (predicts_answer(sample, t)) return true;
    }
    return false;
  });
}

TokenErrors measure_token_errors(const States& states,
                                 const States& reference,
                                 const std::vector<std::vector<TokenKind>>& kinds) {
  std::vector<at::Tensor> errors(states.size());  // [tokens] float64
  for_samples(states.size(), [&](std::size_t i) {
    errors[i] =
        token_errors(states[i], reference[i], ErrorMeasure::kRelative).to(at::kDouble).contiguous();
  });
  std::array<Mean, 3> means;  // by TokenKind
  for (std::size_t i = 0; i < errors.size(); ++i) {
    const double* values = errors[i].const_data_ptr<double>();
    for (std::size_t t = kinds[i].size() > 1 ? 1 : 0; t < kinds[i].size(); ++t) {
      Mean& mean = means.at(static_cast<std::size_t>(judged_kind(kinds[i], t)));
      mean.sum += values[t];
      ++mean.count;
    }
  }
  const auto of = [&](TokenKind kind) { return means.at(static_cast<std::size_t>(kind)).value(); };
  return {of(TokenKind::kImage), of(TokenKind::kText), of(TokenKind::kAnswer)};
}

std::vector<at::Tensor> make_token_weights(const std::vector<std::vector<TokenKind>>& kinds,
                                           const TokenWeights& weights) {
  if (weights == TokenWeights{}) return {};
  const auto weight_of = [&](TokenKind kind) {
    switch (kind) {
      case TokenKind::kImage:
        return weights.image;
      case TokenKind::kText:
        return weights.text;
      case TokenKind::kAnswer:
        return weights.answer;
    }
    return 1.0;
  };
  std::vector<at::Tensor> all;
  for (const std::vector<TokenKind>& sample : kinds) {
    std::vector<float> values;
    for (std::size_t t = 0; t < sample.size(); ++t)
      values.push_back(static_cast<float>(weight_of(judged_kind(sample, t))));
    all.push_back(at::tensor(values));
  }
  return all;
}

ErrorTerms TokenCounts::terms(std::int64_t layer, const States& reference) const {
  if (by_gradient.empty()) return {measure, by_kind};
  ErrorTerms terms{measure, by_gradient.at(static_cast<std::size_t>(layer))};
  if (measure == ErrorMeasure::kSquared) return terms;
  for_samples(reference.size(), [&](std::size_t i) {
    terms.weights[i] = terms.weights[i] * reference[i].square().sum(-1);
  });
  return terms;
}

std::vector<ErrorTerms> TokenCounts::terms(std::int64_t first,
                                           const std::vector<States>& references) const {
  std::vector<ErrorTerms> all;
  for (const States& reference : references)
    all.push_back(terms(first + std::ssize(all), reference));
  return all;
}

TokenCounts TokenCounts::half(std::size_t first) const {
  TokenCounts result{measure, every_second(by_kind, first), {}};
  for (const std::vector<at::Tensor>& layer : by_gradient)
    result.by_gradient.push_back(every_second(layer, first));
  return result;
}

}  // namespace qvlm
