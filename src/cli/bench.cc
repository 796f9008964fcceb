// qvlm bench: how fast a model loads, sees, reads and writes. Medians of several runs after one
// that warms up.
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>

#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/random.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "eval/metrics.h"
#include "eval/process_memory.h"
#include "eval/report_json.h"
#include "runtime/engine.h"

namespace qvlm::cli {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Noise of the tower's own size: resizing is not what is measured.
Image make_image(std::int64_t size) {
  Image image{static_cast<int>(size), static_cast<int>(size), {}};
  image.pixels.resize(static_cast<std::size_t>(3 * size * size));
  Random random(1);
  for (std::uint8_t& pixel : image.pixels)
    pixel = static_cast<std::uint8_t>(random.below(256));
  return image;
}

// A prompt with one image, filled up to `length` positions with its last token.
std::vector<std::int32_t> make_prompt(const Engine& engine, std::int64_t length) {
  std::vector<std::int32_t> ids = engine.encode_prompt({Turn{Role::kUser, "?", 1}});
  require(static_cast<std::int64_t>(ids.size()) <= length, ErrorKind::kInvalidArgument,
          "--prompt-tokens: one image and the shortest question take ", ids.size(),
          " positions, got ", length);
  ids.resize(static_cast<std::size_t>(length), ids.back());
  return ids;
}

// Seconds of each stage, one value a repeat.
struct Timings {
  std::vector<double> image, prefill, decode;
};

Timings measure(const Engine& engine, const BenchCommand& command, ProgressLine& line) {
  const Image image = make_image(engine.model().config().vision.image_size);
  const std::vector<std::int32_t> ids = make_prompt(engine, command.prompt_tokens);
  Timings timings;
  for (int repeat = -1; repeat < command.repeats; ++repeat) {
    line.update({repeat + 1, command.repeats + 1, "runs"});
    at::Tensor features;
    const double image_seconds = seconds_of([&] { features = engine.encode_image(image); });
    Sequence sequence(engine, command.prompt_tokens + command.new_tokens);
    const double prefill_seconds = seconds_of([&] { sequence.prefill(ids, {features}); });
    const double decode_seconds = seconds_of([&] {
      for (std::int64_t i = 0; i < command.new_tokens; ++i)
        sequence.step(ids.back());
    });
    if (repeat < 0) continue;  // the first run touches every page and fills the caches
    timings.image.push_back(image_seconds);
    timings.prefill.push_back(prefill_seconds);
    timings.decode.push_back(decode_seconds);
  }
  return timings;
}

struct BenchResult {
  double load_seconds = 0.0, image_seconds = 0.0, prefill_rate = 0.0, decode_rate = 0.0;
  std::int64_t checkpoint_bytes = 0, peak_memory = 0;
};

BenchResult bench(const BenchCommand& command, ProgressLine& line) {
  BenchResult result;
  std::optional<Engine> engine;
  result.load_seconds =
      seconds_of([&] { engine.emplace(Engine::load(command.model, command.execution)); });
  const Timings timings = measure(*engine, command, line);
  result.image_seconds = median(timings.image);
  result.prefill_rate = static_cast<double>(command.prompt_tokens) / median(timings.prefill);
  result.decode_rate = static_cast<double>(command.new_tokens) / median(timings.decode);
  result.checkpoint_bytes = engine->checkpoint_bytes();
  result.peak_memory = peak_memory_bytes();
  return result;
}

Json to_json(const BenchCommand& command, const BenchResult& result) {
  Json json = Json::object();
  json.set("model", command.model);
  json.set("execution", execution_name(command.execution));
  json.set("threads", thread_count());
  json.set("cpu_level", kernels::cpu_level_name(kernels::cpu_level()));
  json.set("prompt_tokens", command.prompt_tokens);
  json.set("new_tokens", command.new_tokens);
  json.set("repeats", command.repeats);
  json.set("load_seconds", result.load_seconds);
  json.set("image_seconds", result.image_seconds);
  json.set("prefill_tokens_per_second", result.prefill_rate);
  json.set("decode_tokens_per_second", result.decode_rate);
  json.set("checkpoint_bytes", result.checkpoint_bytes);
  json.set("peak_memory_bytes", result.peak_memory);
  return json;
}

}  // namespace

void run(const BenchCommand& command, const CommonOptions& common) {
  BenchResult result;
  {
    ProgressLine line(common.quiet);
    result = bench(command, line);
  }
  if (common.json) {
    std::cout << to_json(command, result).dump(2) << "\n";
    return;
  }
  Table table({{"stage", Table::Align::kLeft}, {"value"}});
  table.add_row({"load", format_seconds(result.load_seconds)});
  table.add_row({"image", format_fixed(1e3 * result.image_seconds, 1) + " ms"});
  table.add_row({"prefill, " + std::to_string(command.prompt_tokens) + " tokens",
                 format_fixed(result.prefill_rate, 1) + " tokens/s"});
  table.add_row({"decode, " + std::to_string(command.new_tokens) + " tokens",
                 format_fixed(result.decode_rate, 1) + " tokens/s"});
  table.add_row({"checkpoint", format_bytes(result.checkpoint_bytes)});
  table.add_row({"peak memory", format_bytes(result.peak_memory)});
  std::cout << table.text() << "median of " << command.repeats << ", " << thread_count()
            << " threads, CPU level " << kernels::cpu_level_name(kernels::cpu_level())
            << "; 1 MB = 1 000 000 bytes\n";
}

}  // namespace qvlm::cli
