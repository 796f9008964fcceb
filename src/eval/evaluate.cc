// evaluate(): the questions of one image are one piece of work. It runs on one thread with a
// Sequence of its own, so that its numbers depend neither on the other pieces nor on how many
// threads there are; the image is encoded once, and the prompts' common front (the image positions)
// is run once.
#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/parallel.h"
#include "base/process_memory.h"
#include "eval/compare.h"
#include "eval/dataset.h"
#include "eval/logits_file.h"
#include "eval/metrics.h"
#include "eval/protocol.h"
#include "eval/report_json.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

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

// The first token each option adds to a prompt: where encode(prompt + " " + option) departs from
// encode(prompt). Every prompt ends in the same words (the assistant's mark), so a short one stands
// for all.
std::map<std::string, std::int32_t> find_first_tokens(const Tokenizer& tokenizer,
                                                      const std::vector<Options>& options) {
  const std::string prompt = render_llava_prompt({Turn{Role::kUser, "?", 0}});
  const std::vector<std::int32_t> base = tokenizer.encode(prompt, true);
  std::map<std::string, std::int32_t> tokens;
  const auto add = [&](const std::string& option) {
    if (tokens.contains(option)) return;
    const std::vector<std::int32_t> ids = tokenizer.encode(prompt + " " + option, true);
    const auto [same, departed] = std::mismatch(base.begin(), base.end(), ids.begin(), ids.end());
    if (departed != ids.end()) tokens.emplace(option, *departed);
  };
  for (const Options& item : options) {
    add(item.right);
    for (const std::string& option : item.all)
      add(option);
  }
  return tokens;
}

std::span<const float> as_span(const at::Tensor& row) {
  return {row.const_data_ptr<float>(), static_cast<std::size_t>(row.numel())};
}

std::size_t count_items(const Dataset& dataset, const EvaluateOptions& options) {
  const std::size_t all = dataset.items.size();
  return options.items > 0 ? std::min(all, static_cast<std::size_t>(options.items)) : all;
}

// What compare() would refuse after the run, and logits that this run would overwrite.
//   planned: its settings are complete, its items are not there yet.
void check_reference(Report planned, const Dataset& dataset, const EvaluateOptions& options) {
  for (std::size_t i = 0; i < count_items(dataset, options); ++i) {
    const Item& item = dataset.items[i];
    planned.items.push_back({item.id, item.category, item.answer, "", false, std::nullopt});
  }
  pair_items(planned, *options.reference);
  const std::filesystem::path& kept = options.reference->logits_file;
  if (kept.empty() || options.logits_file.empty()) return;
  const bool same = std::filesystem::weakly_canonical(kept) ==
                    std::filesystem::weakly_canonical(options.logits_file);
  require(!same, ErrorKind::kInvalidArgument, "the logits would replace those of the reference, ",
          kept.string());
}

class Evaluation {
 public:
  Evaluation(const Engine& engine,
             const Dataset& dataset,
             const EvaluateOptions& options,
             LogitsWriter* logits)
      : engine_(engine),
        dataset_(dataset),
        options_(options),
        logits_(logits),
        item_options_(make_options(dataset)),
        first_tokens_(find_first_tokens(engine.tokenizer(), item_options_)) {
    results_.resize(count_items(dataset, options));
  }

  std::vector<ItemResult> run(const ProgressCallback& progress);

 private:
  void run_group(const std::vector<std::size_t>& group, const ProgressCallback& progress);
  void count_item(const ProgressCallback& progress);
  std::int64_t answer_limit(const std::vector<std::int32_t>& prompt) const;
  ItemResult run_item(std::size_t index,
                      Sequence& sequence,
                      const std::vector<std::int32_t>& ids,
                      const std::vector<at::Tensor>& images);
  std::optional<double> margin(std::size_t index, std::span<const float> logits) const;
  std::string decode_greedily(Sequence& sequence, at::Tensor row, std::int64_t limit) const;

  const Engine& engine_;
  const Dataset& dataset_;
  const EvaluateOptions& options_;
  LogitsWriter* logits_;
  std::vector<Options> item_options_;
  std::map<std::string, std::int32_t> first_tokens_;
  std::vector<ItemResult> results_;
  std::mutex mutex_;
  std::int64_t done_ = 0;  // under mutex_
};

std::vector<ItemResult> Evaluation::run(const ProgressCallback& progress) {
  const auto groups = group_by_images(dataset_.items, results_.size());
  for_each_apart(static_cast<std::int64_t>(groups.size()), [&](std::int64_t index) {
    run_group(groups[static_cast<std::size_t>(index)], progress);
  });
  return std::move(results_);
}

void Evaluation::run_group(const std::vector<std::size_t>& group,
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
                      options_.kv_cache);
    for (current = 0; current < group.size(); ++current) {
      results_[group[current]] = run_item(group[current], sequence, prompts[current], images);
      count_item(progress);
    }
  } catch (const Error& error) {
    fail(error.kind(), "item '", dataset_.items[group[current]].id, "' of ",
         dataset_.folder.string(), ": ", error.what());
  }
}

void Evaluation::count_item(const ProgressCallback& progress) {
  const std::scoped_lock lock(mutex_);
  ++done_;
  if (progress) progress({done_, static_cast<std::int64_t>(results_.size()), "questions"});
}

// How many tokens may follow the prompt: the rule of Session::generate.
std::int64_t Evaluation::answer_limit(const std::vector<std::int32_t>& prompt) const {
  const auto taken = static_cast<std::int64_t>(prompt.size());
  const std::int64_t positions = engine_.model().config().text.max_positions;
  require(taken < positions, ErrorKind::kInvalidArgument, "the prompt takes ", taken,
          " positions, the model has ", positions);
  return std::min(options_.max_new_tokens, positions - taken);
}

ItemResult Evaluation::run_item(std::size_t index,
                                Sequence& sequence,
                                const std::vector<std::int32_t>& ids,
                                const std::vector<at::Tensor>& images) {
  const Item& item = dataset_.items[index];
  const at::Tensor row =
      sequence.prefill(ids, images).select(0, -1).to(at::kFloat).contiguous();  // [vocab]
  if (logits_ != nullptr) logits_->write_row(static_cast<std::int64_t>(index), as_span(row));
  ItemResult result{item.id, item.category, item.answer, "", false, margin(index, as_span(row))};
  result.prediction = trim(decode_greedily(sequence, row, answer_limit(ids)));
  result.correct = is_correct(dataset_, item, result.prediction);
  return result;
}

std::optional<double> Evaluation::margin(std::size_t index, std::span<const float> logits) const {
  const Options& options = item_options_[index];
  const auto right = first_tokens_.find(options.right);
  if (right == first_tokens_.end()) return std::nullopt;
  std::vector<std::int32_t> ids;
  for (const std::string& option : options.all) {
    const auto found = first_tokens_.find(option);
    if (found != first_tokens_.end()) ids.push_back(found->second);
  }
  return option_margin(logits, right->second, ids);
}

std::string Evaluation::decode_greedily(Sequence& sequence,
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
  return engine_.tokenizer().decode(ids, true);
}

}  // namespace

Report evaluate(const std::filesystem::path& model,
                const std::filesystem::path& data,
                const EvaluateOptions& options,
                const ProgressCallback& progress) {
  require(options.items >= 0, ErrorKind::kInvalidArgument, "items: expected 0 (all) or more, got ",
          options.items);
  require(options.max_new_tokens >= 1, ErrorKind::kInvalidArgument,
          "max_new_tokens: expected 1 or more, got ", options.max_new_tokens);
  // What is cheap to check comes first: the questions and the place for the logits.
  const Dataset dataset = Dataset::load(data);
  Report report;
  report.model = model.string();
  report.execution = execution_name(options.execution);
  report.kv_cache = kv_format_name(options.kv_cache);
  report.data = data.string();
  report.protocol = protocol_name(dataset.protocol);
  report.max_new_tokens = options.max_new_tokens;
  if (options.reference != nullptr) check_reference(report, dataset, options);
  std::optional<LogitsWriter> logits;
  if (!options.logits_file.empty()) logits.emplace(options.logits_file);

  const auto load_start = Clock::now();
  const Engine engine = Engine::load(model, options.execution, options.packed_cache);
  report.load_seconds = seconds_since(load_start);
  report.checkpoint_bytes = engine.checkpoint_bytes();
  report.products = engine.products();

  const auto start = Clock::now();
  Evaluation evaluation(engine, dataset, options, logits ? &*logits : nullptr);
  report.items = evaluation.run(progress);
  report.seconds = seconds_since(start);
  report.peak_memory_bytes = peak_memory_bytes();
  if (logits) {
    logits->commit(static_cast<std::int64_t>(report.items.size()),
                   engine.model().config().text.vocab_size);
    report.logits_file = options.logits_file;
  }
  return report;
}

}  // namespace qvlm
