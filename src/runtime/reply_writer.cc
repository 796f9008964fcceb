#include "runtime/reply_writer.h"

#include <algorithm>
#include <numeric>

namespace qvlm {
namespace {

// The likeliest tokens, likeliest first. log_probabilities: [vocab], double.
std::vector<TokenChoice> likeliest(const at::Tensor& log_probabilities,
                                   std::int64_t count,
                                   const Tokenizer& tokenizer) {
  const double* values = log_probabilities.const_data_ptr<double>();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(log_probabilities.numel()));
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min(count, log_probabilities.numel());
  std::partial_sort(ids.begin(), end, ids.end(), [values](std::int32_t a, std::int32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  std::vector<TokenChoice> choices;
  for (auto id = ids.begin(); id != end; ++id)
    choices.push_back({*id, tokenizer.decode({&*id, 1}, /*skip_special=*/false), values[*id]});
  return choices;
}

}  // namespace

ReplyWriter::ReplyWriter(const Tokenizer& tokenizer,
                         const GenerateOptions& options,
                         const TextCallback& on_text,
                         Reply& reply)
    : tokenizer_(tokenizer),
      options_(options),
      decoder_(tokenizer, /*skip_special=*/true),
      stop_(options.stop),
      on_text_(on_text),
      reply_(reply) {}

bool ReplyWriter::push(std::int32_t id, const at::Tensor& logits) {
  if (reply_.ids.empty()) {
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - asked_;
    reply_.first_token_seconds = waited.count();
  }
  reply_.ids.push_back(id);
  note_probabilities(id, logits);
  return show(stop_.push(decoder_.push(id)));
}

void ReplyWriter::finish() {
  finishing_ = true;  // what ended the reply is known by now
  if (show(stop_.push(decoder_.finish()))) show(stop_.finish());
}

void ReplyWriter::note_probabilities(std::int32_t id, const at::Tensor& logits) {
  if (!options_.log_probabilities && options_.alternatives == 0) return;
  const at::Tensor values = at::log_softmax(logits, 0, at::kDouble).contiguous();
  if (options_.log_probabilities)
    reply_.log_probabilities.push_back(values.const_data_ptr<double>()[id]);
  if (options_.alternatives > 0)
    reply_.alternatives.push_back(likeliest(values, options_.alternatives, tokenizer_));
}

bool ReplyWriter::show(const std::string& piece) {
  if (ended_) return false;
  reply_.text += piece;
  if (stop_.found()) end(StopReason::kStopText);
  const bool refused = !piece.empty() && on_text_ && !on_text_(piece);
  if (refused && !ended_) end(finishing_ ? reply_.stop_reason : StopReason::kCallback);
  return !ended_;
}

void ReplyWriter::end(StopReason reason) {
  reply_.stop_reason = reason;
  ended_ = true;
}

}  // namespace qvlm
