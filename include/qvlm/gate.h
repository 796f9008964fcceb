// Guarding a model in CI: a report against a reference, item by item, within limits.
//
//   qvlm::Verdict verdict = qvlm::gate(qvlm::Report::load("w4a8.json"),
//                                      qvlm::Report::load("reference.json"),
//                                      qvlm::Limits::load("configs/gates/regression.yaml"));
//   return verdict.passed() ? 0 : 5;
//
// Statistics, rules and limits in words: docs/ci.md.
#pragma once

#include <qvlm/evaluate.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// What a speed limit does with a reference from another processor.
enum class OtherCpu { kRefuse, kSkip, kJudge };

// How far a result may be from its reference. What is not given is shown and not judged. Shares are
// of 1: 0.005 is half a point.
struct Limits {
  std::optional<double> max_accuracy_loss = {};  // share of all items, right answers lost less won
  std::optional<double> max_category_loss = {};  // the same, of the items of each category
  std::optional<double> max_changed_answers = {};  // share of items with another answer
  std::optional<double> max_option_kl = {};        // nats, mean; of the options' probabilities
  std::optional<double> max_logit_kl = {};         // nats, mean; of the whole vocabulary
  std::optional<double> max_margin_drop = {};      // logits, mean
  std::optional<double> max_length_change = {};    // mean answer length, relative, either way
  bool exact_bytes = false;                        // checkpoint, weights and KV cache: equal
  std::optional<double> max_bytes_ratio = {};      // each of them, as a multiple
  std::optional<double> max_memory_ratio = {};     // peak memory, as a multiple
  std::optional<double> min_speed_ratio = {};      // prefill and decode, each as a multiple
  OtherCpu other_cpu = OtherCpu::kRefuse;

  // Reads YAML with these names as keys. Throws kNotFound, or kInvalidArgument naming file, line
  // and key: an unknown one, a value out of range, a file without any limit.
  static Limits load(const std::filesystem::path& file);
};

enum class GateOutcome {
  kPass,
  kFail,
  kCannotTest,  // the limit asks for more than these items or reports can show
  kSkipped,     // as the limits ask for
  kNoLimit,     // shown only
};

// What the numbers of a row are.
enum class GateUnit { kShare, kNats, kLogits, kTokens, kBytes, kMultiple };

struct GateRange {
  double low = 0.0, high = 0.0;
};

// One line of the verdict: a quantity, what became of it, and whether that is allowed.
struct GateRow {
  std::string what;  // "accuracy loss", "accuracy loss, color", "option KL"
  GateUnit unit = GateUnit::kShare;
  std::optional<double> reference, result;
  // Loss of accuracy as a positive share, drop of a margin as positive logits, else the quantity
  // that is limited. `relative`: it is a multiple of the reference.
  std::optional<double> change;  // nothing: one report lacks what would be compared
  bool relative = false;
  std::optional<GateRange> interval;  // of the change, 95 %, paired bootstrap over images
  std::optional<double> limit;        // of the change
  std::optional<double> detectable;   // the smallest true change that is found 4 times of 5
  std::int64_t items = 0;             // that were compared; 0: the row is about the whole run
  std::int64_t lost = 0, won = 0;     // rows about accuracy
  std::optional<double> mcnemar_p;    // the same
  GateOutcome outcome = GateOutcome::kNoLimit;
  std::string why;  // when the outcome is not kPass, and when there is no change
};

struct Verdict {
  std::vector<GateRow> rows;
  // What is different about the two runs beside their numbers: another model, tool, CPU, threads.
  std::vector<std::string> notes;

  bool passed() const;  // no row failed, and all limits could be tested
  bool failed() const;  // a row failed
};

// Compares. The same numbers give the same verdict. Throws what compare() does, and
// kInvalidArgument for reports of different data (by hash, where both have one). Logits that are
// not there any more are no error: the row about them says so.
Verdict gate(const Report& result, const Report& reference, const Limits& limits);

}  // namespace qvlm
