// gate(): what is compared, and the notes about what else is different.
#include <qvlm/gate.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "eval/compare.h"
#include "eval/gate_rows.h"

namespace qvlm {
namespace {

struct Pairs {
  std::vector<ItemPair> items;
  std::string why_no_logits;  // empty: they are compared
};

// A reference that is kept in a repository usually comes without its logits.
std::string find_missing_logits(const Report& report) {
  if (has_own_logits(report)) return "";
  if (report.logits_file.empty()) return join("the run of ", report.model, " kept no logits");
  const bool replaced = std::filesystem::exists(report.logits_file);
  return join(report.logits_file.string(),
              replaced ? ": was replaced by another run's" : ": is not there");
}

Pairs make_pairs(const Report& result, const Report& reference) {
  const std::vector<std::size_t> partners = pair_items(result, reference);
  require(!partners.empty(), ErrorKind::kInvalidArgument, "the reports have no items");
  Pairs pairs;
  for (std::size_t i = 0; i < partners.size(); ++i)
    pairs.items.push_back({&reference.items[partners[i]], &result.items[i], std::nullopt});
  for (const Report* report : {&reference, &result}) {
    pairs.why_no_logits = find_missing_logits(*report);
    if (!pairs.why_no_logits.empty()) return pairs;
  }
  const auto divergences = logit_divergences(result, reference, partners);
  if (!divergences) pairs.why_no_logits = "the vocabularies differ in size";
  for (std::size_t i = 0; divergences && i < divergences->size(); ++i)
    pairs.items[i].logit_kl = (*divergences)[i];
  return pairs;
}

void check_data(const Report& result, const Report& reference) {
  const std::string& after = result.identity.data_sha256;
  const std::string& before = reference.identity.data_sha256;
  require(after.empty() || before.empty() || after == before, ErrorKind::kInvalidArgument,
          "the reports were made from different data: ", result.data, " and ", reference.data,
          " differ in data.jsonl, meta.json or images");
}

void add_accuracy(const std::vector<ItemPair>& pairs, const Limits& limits, Verdict& verdict) {
  verdict.rows.push_back(accuracy_row("accuracy loss", pairs, limits.max_accuracy_loss));
  std::map<std::string, std::vector<ItemPair>> categories;
  for (const ItemPair& pair : pairs)
    categories[pair.after->category].push_back(pair);
  if (categories.size() < 2 && !limits.max_category_loss) return;
  for (const auto& [category, members] : categories) {
    const std::string what = "accuracy loss, " + (category.empty() ? "(none)" : category);
    verdict.rows.push_back(accuracy_row(what, members, limits.max_category_loss));
  }
}

void add_speed(const Report& result,
               const Report& reference,
               const Limits& limits,
               Verdict& verdict) {
  const SpeedReport before = reference.speed.value_or(SpeedReport{});
  const SpeedReport after = result.speed.value_or(SpeedReport{});
  const bool same_cpu = result.identity.cpu == reference.identity.cpu;
  verdict.rows.push_back(
      speed_row("prefill speed", before.prefill, after.prefill, limits, same_cpu));
  verdict.rows.push_back(speed_row("decode speed", before.decode, after.decode, limits, same_cpu));
}

void note_differences(const Report& result, const Report& reference, Verdict& verdict) {
  const auto note = [&verdict](const std::string& what, const auto& before, const auto& after) {
    if (before != after) verdict.notes.push_back(join(what, ": ", before, " -> ", after));
  };
  const ReportIdentity& before = reference.identity;
  const ReportIdentity& after = result.identity;
  const bool hashed = !before.model_sha256.empty() && !after.model_sha256.empty();
  if (hashed && before.model_sha256 != after.model_sha256)
    verdict.notes.push_back("the model's files are not those of the reference");
  note("execution", reference.execution, result.execution);
  note("KV cache", reference.kv_cache, result.kv_cache);
  note("tool", before.tool, after.tool);
  note("CPU", before.cpu, after.cpu);
  note("CPU level", before.cpu_level, after.cpu_level);
  note("threads", before.threads, after.threads);
  if (reference.products != result.products)
    verdict.notes.push_back("other linears multiply integers than in the reference");
}

}  // namespace

bool Verdict::failed() const {
  return std::ranges::any_of(rows,
                             [](const GateRow& row) { return row.outcome == GateOutcome::kFail; });
}

bool Verdict::passed() const {
  return !failed() && std::ranges::none_of(rows, [](const GateRow& row) {
    return row.outcome == GateOutcome::kCannotTest;
  });
}

Verdict gate(const Report& result, const Report& reference, const Limits& limits) {
  check_data(result, reference);
  const auto [pairs, why_no_logits] = make_pairs(result, reference);
  Verdict verdict;
  add_accuracy(pairs, limits, verdict);
  verdict.rows.push_back(changed_answers_row(pairs, limits.max_changed_answers));
  verdict.rows.push_back(option_kl_row(pairs, limits.max_option_kl));
  verdict.rows.push_back(logit_kl_row(pairs, limits.max_logit_kl, why_no_logits));
  verdict.rows.push_back(margin_row(pairs, limits.max_margin_drop));
  verdict.rows.push_back(length_row(pairs, limits.max_length_change));
  verdict.rows.push_back(
      bytes_row("checkpoint bytes", reference.checkpoint_bytes, result.checkpoint_bytes, limits));
  verdict.rows.push_back(
      bytes_row("weight bytes", reference.weight_bytes, result.weight_bytes, limits));
  verdict.rows.push_back(
      bytes_row("KV bytes a position", reference.kv_bytes, result.kv_bytes, limits));
  verdict.rows.push_back(memory_row(result, reference, limits.max_memory_ratio));
  add_speed(result, reference, limits, verdict);
  note_differences(result, reference, verdict);
  return verdict;
}

}  // namespace qvlm
