// evaluate(): checks first, then the questions, then what else the report tells.
#include <algorithm>
#include <chrono>
#include <optional>

#include "base/error.h"
#include "base/process_memory.h"
#include "eval/compare.h"
#include "eval/identity.h"
#include "eval/question_runner.h"
#include "eval/report_json.h"
#include "eval/speed.h"
#include "io/kv_format.h"
#include "io/sha256.h"
#include "model/memory_plan.h"
#include "tensor/public_call.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
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
    planned.items.push_back({.id = item.id, .category = item.category, .answer = item.answer});
  }
  pair_items(planned, *options.reference);
  const std::filesystem::path& kept = options.reference->logits_file;
  if (kept.empty() || options.logits_file.empty()) return;
  const bool same = std::filesystem::weakly_canonical(kept) ==
                    std::filesystem::weakly_canonical(options.logits_file);
  require(!same, ErrorKind::kInvalidArgument, "the logits would replace those of the reference, ",
          kept.string());
}

void note_bytes(const Engine& engine,
                const std::filesystem::path& model,
                const EvaluateOptions& options,
                Report& report) {
  report.checkpoint_bytes = engine.checkpoint_bytes();
  report.weight_bytes = plan_memory(Checkpoint::open(model), options.execution, {}).weights;
  report.kv_bytes = KvCache(engine.model().config().text, 1, *options.kv_cache).bytes();
}

Report run_evaluation(const std::filesystem::path& model,
                      const std::filesystem::path& data,
                      EvaluateOptions options,
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
  report.data = data.string();
  report.protocol = protocol_name(dataset.protocol);
  report.max_new_tokens = options.max_new_tokens;
  if (options.reference != nullptr) check_reference(report, dataset, options);
  std::optional<LogitsWriter> logits;
  if (!options.logits_file.empty()) logits.emplace(options.logits_file);

  const auto load_start = Clock::now();
  const Engine engine = Engine::load(model, options.execution, options.packed_cache);
  report.load_seconds = seconds_since(load_start);
  options.kv_cache = choose_kv_format(Checkpoint::open(model), options.kv_cache);
  report.kv_cache = kv_format_name(*options.kv_cache);
  note_bytes(engine, model, options, report);
  report.products = engine.products();

  const auto start = Clock::now();
  QuestionRunner runner(engine, dataset, options, logits ? &*logits : nullptr);
  report.items = runner.run(count_items(dataset, options), progress);
  report.seconds = seconds_since(start);
  report.peak_memory_bytes = peak_memory_bytes();  // before the speed's second model is there
  if (logits) {
    logits->commit(static_cast<std::int64_t>(report.items.size()),
                   engine.model().config().text.vocab_size);
    report.logits_file = options.logits_file;
    report.logits_sha256 = sha256_file(options.logits_file);
  }
  report.identity = identify_run();
  if (options.hashes) {
    report.identity.model_sha256 = hash_model(model);
    report.identity.data_sha256 = hash_data(dataset, report.items.size());
  }
  if (options.speed) report.speed = measure_speed(engine, model, dataset, options, progress);
  return report;
}

}  // namespace

Report evaluate(const std::filesystem::path& model,
                const std::filesystem::path& data,
                const EvaluateOptions& options,
                const ProgressCallback& progress) {
  return public_call([&] { return run_evaluation(model, data, options, progress); });
}

}  // namespace qvlm
