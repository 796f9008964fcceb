#include "eval/forward_check.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "io/kv_format.h"
#include "model/memory_plan.h"
#include "runtime/engine.h"

namespace qvlm {
namespace {

constexpr std::int64_t kSteps = 2;
constexpr const char* kQuestion = "what is in the image?";

// Sums in another order move an activation over a rounding tie now and then, the changed code moves
// others, and some layers later packed and simulated round independently. Two independent roundings
// of the same numbers differ by sqrt(2) of what each differs from no rounding: more than this is no
// matter of rounding. Each product by itself is held to far less by eval/product_check.
constexpr double kRoundings = 2.0;
// Float sums in another order differ by about 1e-6 of the range of the logits.
constexpr double kFloatNoise = 1e-5;

// Gradients in all colours, so that patches differ.
Image make_image() {
  Image image{96, 64, {}};
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      for (const int value : {2 * x, 4 * y, (x * y) % 256})
        image.pixels.push_back(static_cast<std::uint8_t>(value % 256));
    }
  }
  return image;
}

// Logits [positions, vocab] of the prompt and of the steps behind it.
at::Tensor run(const OpenedModel& model, Execution execution) {
  const c10::InferenceMode inference;
  const Engine engine = Engine::load(model.checkpoint.folder(), execution);
  const std::vector<std::int32_t> ids = engine.encode_prompt({{Role::kUser, kQuestion, 1}});
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const std::int64_t steps =
      std::clamp<std::int64_t>(model.config.text.max_positions - tokens, 0, kSteps);
  Sequence sequence(engine, tokens + steps, choose_kv_format(model.checkpoint, {}));
  std::vector<at::Tensor> logits = {
      sequence.prefill(ids, {engine.encode_image(make_image())}, LogitsOf::kAll)};
  // The same tokens in every execution, whatever it would say itself.
  for (std::int64_t step = 0; step < steps; ++step)
    logits.push_back(sequence.step(ids.back()).unsqueeze(0));
  return at::cat(logits);
}

double root_mean_square(const at::Tensor& values) {
  return values.square().mean(c10::IntArrayRef{0, 1}, false, at::kDouble).sqrt().item<double>();
}

}  // namespace

std::int64_t forward_check_memory(const OpenedModel& model) {
  std::map<std::string, LinearScheme> schemes;
  if (model.quantization)
    schemes.insert(model.quantization->linears().begin(), model.quantization->linears().end());
  MemoryTerms terms;
  terms.prompt = std::min(model.config.text.max_positions, model.config.image_tokens() + 32);
  terms.capacity = terms.prompt + kSteps;
  terms.kv_cache = choose_kv_format(model.checkpoint, {});
  return plan_memory(model.config, schemes, Execution::kSimulated, terms).peak();
}

ForwardCheck check_forward(const OpenedModel& model,
                           ProblemList& problems,
                           const std::function<void()>& on_run) {
  ForwardCheck check;
  std::map<Execution, at::Tensor> logits;
  std::vector<std::pair<Execution, const char*>> executions = {{Execution::kPacked, "packed"}};
  if (model.quantization)
    executions.insert(executions.end(),
                      {{Execution::kSimulated, "simulated"}, {Execution::kFloat, "float"}});
  for (const auto& [execution, name] : executions) {
    const bool done = problems.attempt("", "", [&] { logits[execution] = run(model, execution); });
    on_run();
    if (!done) return check;
    check.passes += 1 + kSteps;
    if (logits[execution].isfinite().all().item<bool>()) continue;
    problems.add("", "", join("the logits of a ", name, " forward pass are not finite"));
    return check;
  }
  if (!model.quantization) return check;
  const at::Tensor& simulated = logits[Execution::kSimulated];
  const double range = (simulated.max() - simulated.min()).item<double>();
  check.difference = root_mean_square(logits[Execution::kPacked] - simulated);
  check.bound =
      kRoundings * root_mean_square(simulated - logits[Execution::kFloat]) + kFloatNoise * range;
  if (check.difference > check.bound)
    problems.add("", "",
                 join("packed logits differ from simulated ones by ", check.difference,
                      ", rounding explains ", check.bound));
  return check;
}

}  // namespace qvlm
