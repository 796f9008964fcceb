#include "eval/speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/process_memory.h"
#include "eval/bootstrap.h"
#include "eval/metrics.h"
#include "eval/protocol.h"
#include "model/memory_plan.h"

namespace qvlm {
namespace {

// Shorter runs are repeated this long, and the shortest counts: other work on the machine can only
// lengthen one.
constexpr double kLeastSeconds = 0.15;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Seconds {
  double prefill = 0.0;
  double decode = 0.0;  // the shortest step
};

// One item's prompt, which both executions run.
class SpeedPrompt {
 public:
  SpeedPrompt(const Dataset& dataset, KvFormat format)
      : text_(make_question(dataset, dataset.items.front())), format_(format) {
    for (const auto& file : dataset.items.front().images)
      images_.push_back(Image::load(file));
  }

  // Positions of the prompt, and of all that a run takes.
  std::int64_t prompt(const Engine& engine) const { return std::ssize(encode(engine)); }
  std::int64_t positions(const Engine& engine) const {
    return std::min(prompt(engine) + kSpeedTokens, engine.model().config().text.max_positions);
  }

  Seconds run(const Engine& engine) const {
    const auto start = Clock::now();
    std::vector<at::Tensor> features;
    for (const Image& image : images_)
      features.push_back(engine.encode_image(image));
    const std::vector<std::int32_t> ids = encode(engine);
    Sequence sequence(engine, positions(engine), format_);
    sequence.prefill(ids, features);
    Seconds seconds{seconds_since(start), std::numeric_limits<double>::infinity()};
    for (std::int64_t i = std::ssize(ids); i < positions(engine); ++i) {
      const auto before = Clock::now();
      sequence.step(ids.back());  // which token it is makes no difference to the time
      seconds.decode = std::min(seconds.decode, seconds_since(before));
    }
    return seconds;
  }

 private:
  std::vector<std::int32_t> encode(const Engine& engine) const {
    return engine.encode_prompt({Turn{Role::kUser, text_, static_cast<int>(images_.size())}});
  }

  std::string text_;
  KvFormat format_;
  std::vector<Image> images_;
};

void keep_shortest(const Seconds& one, Seconds& shortest) {
  shortest.prefill = std::min(shortest.prefill, one.prefill);
  shortest.decode = std::min(shortest.decode, one.decode);
}

// Whether the float execution fits beside what is loaded.
bool fits(const Engine& engine, const std::filesystem::path& model, const SpeedPrompt& prompt) {
  const MemoryTerms terms{.prompt = prompt.prompt(engine), .capacity = prompt.positions(engine)};
  const std::int64_t needed = plan_memory(Checkpoint::open(model), Execution::kFloat, terms).peak();
  const std::int64_t available = available_memory_bytes();
  if (available == 0 || needed <= available) return true;
  log_warning(join("speed is not measured: the float execution to compare with would take ", needed,
                   " bytes, ", available, " are free"));
  return false;
}

// One round: the shortest of so many runs of both, in turns.
void run_round(const SpeedPrompt& prompt,
               const Engine& engine,
               const Engine& baseline,
               int times,
               SpeedReport& report) {
  Seconds float_seconds = prompt.run(baseline), seconds = prompt.run(engine);
  for (int i = 1; i < times; ++i) {
    keep_shortest(prompt.run(baseline), float_seconds);
    keep_shortest(prompt.run(engine), seconds);
  }
  report.prefill.push_back(float_seconds.prefill / seconds.prefill);
  report.decode.push_back(float_seconds.decode / seconds.decode);
}

bool is_settled(const std::vector<double>& ratios) {
  return median_range(ratios).half_width() < 0.05 * median(ratios);
}

bool is_done(const SpeedReport& report, double seconds) {
  const auto rounds = std::ssize(report.prefill);
  if (seconds >= kMostSpeedSeconds) return rounds >= 3;
  return rounds >= kLeastSpeedRounds && is_settled(report.prefill) && is_settled(report.decode);
}

SpeedReport run_in_turns(const SpeedPrompt& prompt,
                         const Engine& engine,
                         const Engine& baseline,
                         const ProgressCallback& progress) {
  const auto start = Clock::now();
  prompt.run(engine);  // fills caches, as does the next
  const auto time_baseline = [&] {
    const auto begin = Clock::now();
    prompt.run(baseline);
    return std::max(seconds_since(begin), 1e-6);
  };
  double usual = time_baseline();
  if (seconds_since(start) < kMostSpeedSeconds) usual = time_baseline();
  const int times = static_cast<int>(std::clamp(std::ceil(kLeastSeconds / usual), 1.0, 1000.0));
  SpeedReport report;
  while (!is_done(report, seconds_since(start))) {
    const std::int64_t round = std::ssize(report.prefill);
    if (progress)
      progress({round, std::max<std::int64_t>(round + 1, kLeastSpeedRounds), "rounds of speed"});
    run_round(prompt, engine, baseline, times, report);
  }
  return report;
}

}  // namespace

std::optional<SpeedReport> measure_speed(const Engine& engine,
                                         const std::filesystem::path& model,
                                         const Dataset& dataset,
                                         const EvaluateOptions& options,
                                         const ProgressCallback& progress) {
  const SpeedPrompt prompt(dataset, *options.kv_cache);
  if (!fits(engine, model, prompt)) return std::nullopt;
  const Engine baseline = Engine::load(model, Execution::kFloat);
  SpeedReport report;
  for_each_apart(1,
                 [&](std::int64_t) { report = run_in_turns(prompt, engine, baseline, progress); });
  return report;
}

}  // namespace qvlm
