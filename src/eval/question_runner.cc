#include "eval/question_runner.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/metrics.h"
#include "eval/protocol.h"
#include "runtime/sampler.h"

namespace qvlm {
namespace {

// Items that look at the same images, as indices in file order. A question without an image stands
// alone.
std::vector<std::vector<std::size_t>> group_by_images(const std::vector<Item>& items,
                                                      std::size_t count) {
  std::vector<std::vector<std::size_t>> groups;
  std::map<std::vector<std::filesystem::path>, std::size_t> places;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [place, is_new] = places.try_emplace(items[i].images, groups.size());
    if (is_new || items[i].images.empty()) {
      groups.push_back({i});
    } else {
      groups[place->second].push_back(i);
    }
  }
  return groups;
}

std::span<const float> as_span(const at::Tensor& row) {
  return {row.const_data_ptr<float>(), static_cast<std::size_t>(row.numel())};
}

}  // namespace

QuestionRunner::QuestionRunner(const Engine& engine,
                               const Dataset& dataset,
                               const EvaluateOptions& options,
                               LogitsWriter* logits)
    : engine_(engine),
      dataset_(dataset),
      options_(options),
      logits_(logits),
      item_options_(find_option_tokens(dataset, engine.tokenizer())) {}

std::vector<ItemResult> QuestionRunner::run(std::size_t count, const ProgressCallback& progress) {
  results_.resize(count);
  done_ = 0;
  const auto groups = group_by_images(dataset_.items, results_.size());
  for_each_apart(static_cast<std::int64_t>(groups.size()), [&](std::int64_t index) {
    run_group(groups[static_cast<std::size_t>(index)], progress);
  });
  return std::move(results_);
}

void QuestionRunner::run_group(const std::vector<std::size_t>& group,
                               const ProgressCallback& progress) {
  const c10::InferenceMode no_gradients;
  std::vector<at::Tensor> images;
  for (const auto& file : dataset_.items[group.front()].images) {
    images.push_back(engine_.encode_image(Image::load(file)));
  }
  std::vector<std::vector<std::int32_t>> prompts;
  std::size_t longest = 0;  // place in the group
  for (const std::size_t index : group) {
    const std::string text = make_question(dataset_, dataset_.items[index]);
    const Turn turn{Role::kUser, text, static_cast<int>(images.size())};
    prompts.push_back(engine_.encode_prompt({turn}));
    if (prompts.back().size() > prompts[longest].size()) longest = prompts.size() - 1;
  }
  std::size_t current = longest;
  try {
    const std::int64_t limit = answer_limit(prompts[longest]);
    Sequence sequence(engine_, static_cast<std::int64_t>(prompts[longest].size()) + limit,
                      *options_.kv_cache);
    for (current = 0; current < group.size(); ++current) {
      results_[group[current]] = run_item(group[current], sequence, prompts[current], images);
      count_item(progress);
    }
  } catch (const Error& error) {
    fail(error.kind(), "item '", dataset_.items[group[current]].id, "' of ",
         dataset_.folder.string(), ": ", error.what());
  }
}

void QuestionRunner::count_item(const ProgressCallback& progress) {
  const std::scoped_lock lock(mutex_);
  ++done_;
  if (progress) progress({done_, static_cast<std::int64_t>(results_.size()), "questions"});
}

// How many tokens may follow the prompt: the rule of Session::generate.
std::int64_t QuestionRunner::answer_limit(const std::vector<std::int32_t>& prompt) const {
  const auto taken = static_cast<std::int64_t>(prompt.size());
  const std::int64_t positions = engine_.model().config().text.max_positions;
  require(taken < positions, ErrorKind::kInvalidArgument, "the prompt takes ", taken,
          " positions, the model has ", positions);
  return std::min(options_.max_new_tokens, positions - taken);
}

ItemResult QuestionRunner::run_item(std::size_t index,
                                    Sequence& sequence,
                                    const std::vector<std::int32_t>& ids,
                                    const std::vector<at::Tensor>& images) {
  const Item& item = dataset_.items[index];
  const at::Tensor row =
      sequence.prefill(ids, images).select(0, -1).to(at::kFloat).contiguous();  // [vocab]
  if (logits_ != nullptr) logits_->write_row(static_cast<std::int64_t>(index), as_span(row));
  ItemResult result;
  result.id = item.id;
  result.category = item.category;
  result.answer = item.answer;
  for (const auto& file : item.images)
    result.images.push_back(file.lexically_relative(dataset_.folder).string());
  note_options(index, as_span(row), result);
  const std::vector<std::int32_t> answer = decode_greedily(sequence, row, answer_limit(ids));
  result.tokens = static_cast<std::int64_t>(answer.size());
  result.prediction = trim(engine_.tokenizer().decode(answer, /*skip_special=*/true));
  result.correct = is_correct(dataset_, item, result.prediction);
  return result;
}

void QuestionRunner::note_options(std::size_t index,
                                  std::span<const float> logits,
                                  ItemResult& result) const {
  const ItemOptions& options = item_options_[index];
  result.options = options.names;
  for (const std::int32_t id : options.ids)
    result.option_logits.push_back(logits[static_cast<std::size_t>(id)]);
  if (options.right) result.margin = option_margin(logits, *options.right, options.ids);
}

std::vector<std::int32_t> QuestionRunner::decode_greedily(Sequence& sequence,
                                                          at::Tensor row,
                                                          std::int64_t limit) const {
  Sampler greedy{GenerateOptions()};
  std::vector<std::int32_t> ids;
  while (true) {
    const std::int32_t id = greedy.pick(row);
    if (engine_.is_end_token(id)) break;
    ids.push_back(id);
    if (static_cast<std::int64_t>(ids.size()) >= limit) break;
    row = sequence.step(id);
  }
  return ids;
}

}  // namespace qvlm
