// qvlm bench: how fast variants of a model load, see, read and write, and what they take. Rounds go
// over all variants, each loaded, measured and freed in turn, so that a slow minute of the machine
// hits all of them; the medians of the rounds are reported.
#include <chrono>
#include <functional>
#include <iostream>

#include "base/error.h"
#include "base/process_memory.h"
#include "cli/bench_result.h"
#include "cli/bench_variants.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "io/kv_format.h"
#include "model/matmul_clock.h"

namespace qvlm::cli {
namespace {

struct Timed {
  double seconds = 0.0, other_seconds = 0.0;  // other: outside the products of linears
};

Timed time_of(const std::function<void()>& work) {
  const double products = matmul_seconds();
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  return {spent.count(), spent.count() - (matmul_seconds() - products)};
}

// One image and made-up text behind it: only the number of tokens matters.
class Workload {
 public:
  Workload(const ModelConfig& config,
           const BenchCommand& command,
           std::int64_t prompt_tokens,
           KvFormat kv_cache)
      : command_(command), kv_cache_(kv_cache) {
    const std::int64_t size = config.vision.image_size, images = config.image_tokens();
    pixels_ = at::sin(at::arange(3 * size * size, at::kFloat)).reshape({3, size, size});
    require(prompt_tokens > images, ErrorKind::kInvalidArgument,
            "--prompt-tokens: one image takes ", images, " positions, so that at least ",
            images + 1, " are needed, got ", prompt_tokens);
    ids_.assign(static_cast<std::size_t>(images), static_cast<std::int32_t>(config.image_token_id));
    text_id_ = config.image_token_id == 1 ? 2 : 1;
    ids_.resize(static_cast<std::size_t>(prompt_tokens), text_id_);
  }

  // Runs everything once; memory is read while the sequence is alive.
  void run(const Vlm& model, BenchSample& sample) const {
    at::Tensor features;
    sample.image_seconds = time_of([&] { features = model.encode_image(pixels_); }).seconds;
    KvCache cache(model.config().text, static_cast<std::int64_t>(ids_.size()) + command_.new_tokens,
                  kv_cache_);
    const Timed prefill =
        time_of([&] { model.forward(model.embed(ids_, {features}), cache, LogitsOf::kLast); });
    const Timed decode = time_of([&] {
      for (std::int64_t i = 0; i < command_.new_tokens; ++i)
        model.forward(model.embed_token(text_id_), cache, LogitsOf::kLast);
    });
    sample.prefill_seconds = prefill.seconds;
    sample.prefill_other_seconds = prefill.other_seconds;
    sample.decode_seconds = decode.seconds;
    sample.decode_other_seconds = decode.other_seconds;
    sample.memory_resident = resident_memory_bytes();
  }

 private:
  const BenchCommand& command_;
  KvFormat kv_cache_;
  at::Tensor pixels_;
  std::vector<std::int32_t> ids_;
  std::int32_t text_id_ = 0;
};

// `warm_up`: run twice and keep the second, as the first of all fills LibTorch's caches.
BenchSample measure(const Variant& variant, const Workload& workload, bool warm_up) {
  const c10::InferenceMode inference;
  BenchSample sample;
  return_freed_memory();
  sample.memory_before = resident_memory_bytes();
  reset_peak_memory();
  std::optional<Vlm> model;
  sample.load_seconds = time_of([&] { model.emplace(variant.load()); }).seconds;
  if (warm_up) workload.run(*model, sample);
  workload.run(*model, sample);
  sample.memory_peak = peak_memory_bytes();
  return sample;
}

// Why a variant cannot run here; empty: it can.
std::string find_obstacle(const MemoryPlan& plan) {
  const std::int64_t available = available_memory_bytes();
  if (available == 0 || plan.peak() <= available) return "";
  return "does not fit: needs " + format_bytes(plan.peak()) + ", " + format_bytes(available) +
         " are free";
}

BenchResult bench(const BenchCommand& command, ProgressLine& line) {
  const VariantList list = make_variants(command, line);
  BenchResult result;
  result.left_out = list.left_out;
  constexpr std::int64_t kTextTokens = 64;
  result.prompt_tokens =
      command.prompt_tokens > 0 ? command.prompt_tokens : list.config.image_tokens() + kTextTokens;
  result.kv_cache = command.synthetic.empty()
                        ? choose_kv_format(Checkpoint::open(command.model), command.kv_cache)
                        : command.kv_cache.value_or(KvFormat::kFloat32);
  const Workload workload(list.config, command, result.prompt_tokens, result.kv_cache);
  const MemoryTerms terms{list.stored_bytes, result.prompt_tokens,
                          result.prompt_tokens + command.new_tokens, result.kv_cache};
  for (const Variant& variant : list.variants) {
    const MemoryPlan plan = plan_memory(list.config, variant.schemes, variant.execution, terms);
    result.rows.push_back(
        {variant.name, describe_arithmetic(list.config, variant), plan, find_obstacle(plan), {}});
  }
  const auto count = static_cast<std::int64_t>(list.variants.size());
  std::vector<std::vector<BenchSample>> samples(list.variants.size());
  for (int round = 0; round < command.repeats; ++round) {
    for (std::size_t i = 0; i < list.variants.size(); ++i) {
      line.update({round * count + static_cast<std::int64_t>(i), command.repeats * count, "runs"});
      if (!result.rows[i].left_out.empty()) continue;
      samples[i].push_back(measure(list.variants[i], workload, /*warm_up=*/round == 0));
    }
  }
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!samples[i].empty()) result.rows[i].median = median_of(samples[i]);
  }
  return result;
}

}  // namespace

void run(const BenchCommand& command, const CommonOptions& common) {
  BenchResult result;
  {
    ProgressLine line(common.quiet);
    result = bench(command, line);
  }
  std::cout << (common.json ? to_json(command, result).dump(2) + "\n" : to_text(command, result));
}

}  // namespace qvlm::cli
