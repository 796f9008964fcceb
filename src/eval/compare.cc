#include "eval/compare.h"

#include <map>
#include <span>

#include "base/error.h"
#include "eval/logits_file.h"
#include "eval/metrics.h"
#include "eval/protocol.h"
#include "io/sha256.h"

namespace qvlm {
namespace {

void check_rows(const LogitsFile& logits, const Report& report) {
  require(logits.rows() == static_cast<std::int64_t>(report.items.size()), ErrorKind::kCorrupt,
          report.logits_file.string(), ": expected ", report.items.size(),
          " rows, one an item, got ", logits.rows());
}

void check_logits(const Report& report) {
  if (!std::filesystem::exists(report.logits_file)) return;  // opening it will tell
  require(has_own_logits(report), ErrorKind::kCorrupt, report.logits_file.string(),
          ": is not the file that was written with the report of ", report.model,
          ": another run replaced it");
}

}  // namespace

bool has_own_logits(const Report& report) {
  if (report.logits_file.empty() || !std::filesystem::exists(report.logits_file)) return false;
  return report.logits_sha256.empty() || sha256_file(report.logits_file) == report.logits_sha256;
}

std::optional<std::vector<double>> logit_divergences(const Report& result,
                                                     const Report& reference,
                                                     const std::vector<std::size_t>& partners) {
  if (result.logits_file.empty() || reference.logits_file.empty() || partners.empty())
    return std::nullopt;
  const LogitsFile logits(result.logits_file);
  const LogitsFile reference_logits(reference.logits_file);
  check_rows(logits, result);
  check_rows(reference_logits, reference);
  if (logits.vocab() != reference_logits.vocab() || logits.vocab() == 0) return std::nullopt;
  std::vector<double> divergences;
  for (std::size_t i = 0; i < partners.size(); ++i) {
    divergences.push_back(
        kl_divergence(reference_logits.row(static_cast<std::int64_t>(partners[i])),
                      logits.row(static_cast<std::int64_t>(i))));
  }
  return divergences;
}

std::vector<std::size_t> pair_items(const Report& result, const Report& reference) {
  require(result.protocol == reference.protocol, ErrorKind::kInvalidArgument,
          "the reports were scored by different protocols: ", result.protocol, " (", result.model,
          ") and ", reference.protocol, " (", reference.model, ")");
  require(result.max_new_tokens == reference.max_new_tokens, ErrorKind::kInvalidArgument,
          "the reports allowed answers of different length: max_new_tokens ", result.max_new_tokens,
          " (", result.model, ") and ", reference.max_new_tokens, " (", reference.model, ")");
  require(result.items.size() == reference.items.size(), ErrorKind::kInvalidArgument,
          "the reports did not run the same items: ", result.items.size(), " (", result.model,
          ") against ", reference.items.size(), " (", reference.model, ")");
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < reference.items.size(); ++i)
    places.emplace(reference.items[i].id, i);
  std::vector<std::size_t> partners;
  for (const ItemResult& item : result.items) {
    const auto found = places.find(item.id);
    require(found != places.end(), ErrorKind::kInvalidArgument,
            "the reports did not run the same items: '", item.id, "' (", result.model,
            ") is not in the reference (", reference.model, ")");
    require(reference.items[found->second].answer == item.answer, ErrorKind::kInvalidArgument,
            "the reports did not run the same items: the answer of '", item.id, "' is '",
            item.answer, "' (", result.model, ") and '", reference.items[found->second].answer,
            "' (", reference.model, ")");
    partners.push_back(found->second);
  }
  return partners;
}

Comparison compare(const Report& result, const Report& reference) {
  const std::vector<std::size_t> partners = pair_items(result, reference);
  Comparison comparison;
  std::int64_t same = 0;
  std::vector<double> changes;
  for (std::size_t i = 0; i < partners.size(); ++i) {
    const ItemResult& after = result.items[i];
    const ItemResult& before = reference.items[partners[i]];
    same += normalize_answer(after.prediction) == normalize_answer(before.prediction) ? 1 : 0;
    comparison.lost += before.correct && !after.correct ? 1 : 0;
    comparison.won += !before.correct && after.correct ? 1 : 0;
    if (before.margin && after.margin) changes.push_back(*after.margin - *before.margin);
  }
  comparison.agreement = make_share(same, static_cast<std::int64_t>(partners.size()));
  comparison.mcnemar_p = mcnemar_p(comparison.lost, comparison.won);
  if (!changes.empty()) comparison.margin_change = mean(changes);
  check_logits(result);
  check_logits(reference);
  if (const auto divergences = logit_divergences(result, reference, partners)) {
    comparison.kl_mean = mean(*divergences);
    comparison.kl_median = median(*divergences);
    comparison.kl_trimmed_mean = upper_trimmed_mean(*divergences, 0.01);
  }
  return comparison;
}

}  // namespace qvlm
