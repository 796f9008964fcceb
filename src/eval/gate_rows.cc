#include "eval/gate_rows.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "eval/bootstrap.h"
#include "eval/metrics.h"
#include "eval/power.h"
#include "eval/protocol.h"

namespace qvlm {
namespace {

// Values of some items, and which image each is about.
struct Sample {
  std::vector<double> values;
  std::vector<std::size_t> groups;

  // A question without an image stands alone.
  void add(const ItemPair& pair, double value) {
    std::vector<std::string> key = pair.after->images;
    if (key.empty()) key = {"", pair.after->id};
    groups.push_back(numbers_.try_emplace(key, numbers_.size()).first->second);
    values.push_back(value);
  }

 private:
  std::map<std::vector<std::string>, std::size_t> numbers_;
};

std::string points(double share) {
  return join(std::round(1e4 * share) / 1e2, " %");
}

GateRow cannot_test(GateRow row, std::string why) {
  row.outcome = GateOutcome::kCannotTest;
  row.why = std::move(why);
  return row;
}

// A row without a change: one side lacks what would be compared.
GateRow missing(std::string what, GateUnit unit, std::optional<double> limit, std::string why) {
  GateRow row{.what = std::move(what), .unit = unit, .limit = limit};
  if (limit) return cannot_test(std::move(row), std::move(why));
  row.why = std::move(why);
  return row;
}

void judge(GateRow& row, bool failed, const std::string& why) {
  if (!row.limit) return;
  row.outcome = failed ? GateOutcome::kFail : GateOutcome::kPass;
  if (failed) row.why = why;
}

// The part that rows about means share. `change`: what the limit is about, in units of `scale`.
GateRow mean_row(GateRow row, const Sample& sample, double scale, std::optional<double> limit) {
  const Interval interval = bootstrap_mean(sample.values, sample.groups);
  row.change = mean(sample.values) / scale;
  row.interval = GateRange{interval.low / scale, interval.high / scale};
  row.items = std::ssize(sample.values);
  row.limit = limit;
  const double half = interval.half_width() / scale;
  row.detectable = detectable_mean(half, limit.value_or(0.0));
  if (!limit) return row;
  if (*limit < detectable_mean(half)) {
    return cannot_test(std::move(row), join("these ", row.items, " items show a change from ",
                                            detectable_mean(half), " on, the limit is ", *limit));
  }
  return row;
}

double kl_of_options(const ItemPair& pair) {
  return kl_divergence(pair.before->option_logits, pair.after->option_logits);
}

bool has_options(const ItemPair& pair) {
  return pair.after->options.size() > 1 && pair.after->options == pair.before->options;
}

}  // namespace

GateRow accuracy_row(std::string what,
                     const std::vector<ItemPair>& pairs,
                     std::optional<double> limit) {
  GateRow row{.what = std::move(what), .limit = limit, .items = std::ssize(pairs)};
  Sample losses;
  double before = 0.0, after = 0.0;
  for (const ItemPair& pair : pairs) {
    const bool was = pair.before->correct, is = pair.after->correct;
    before += was ? 1.0 : 0.0;
    after += is ? 1.0 : 0.0;
    row.lost += was && !is ? 1 : 0;
    row.won += !was && is ? 1 : 0;
    losses.add(pair, static_cast<double>(was) - static_cast<double>(is));
  }
  const double n = static_cast<double>(pairs.size());
  row.reference = before / n;
  row.result = after / n;
  row.change = mean(losses.values);
  const Interval interval = bootstrap_mean(losses.values, losses.groups);
  row.interval = GateRange{interval.low, interval.high};
  row.mcnemar_p = mcnemar_p(row.lost, row.won);
  const double win_rate = static_cast<double>(row.won) / n;
  row.detectable = detectable_loss(row.items, win_rate, limit.value_or(0.0));
  if (!limit) return row;
  if (is_loss(row.lost, row.won, n * *limit)) {
    judge(row, true,
          join("lost ", row.lost, " right answers and won ", row.won, " of ", row.items));
    return row;
  }
  const double smallest = detectable_loss(row.items, win_rate, 0.0);
  if (*limit < smallest) {
    return cannot_test(std::move(row), join(row.items, " items show a loss from ", points(smallest),
                                            " on, the limit is ", points(*limit)));
  }
  judge(row, false, "");
  return row;
}

GateRow changed_answers_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  GateRow row{.what = "changed answers", .limit = limit, .items = std::ssize(pairs)};
  Sample changed;
  for (const ItemPair& pair : pairs) {
    const bool same =
        normalize_answer(pair.before->prediction) == normalize_answer(pair.after->prediction);
    changed.add(pair, same ? 0.0 : 1.0);
  }
  const Interval interval = bootstrap_mean(changed.values, changed.groups);
  row.interval = GateRange{interval.low, interval.high};
  row.change = mean(changed.values);
  judge(row, limit && *row.change > *limit, "more answers changed than the limit allows");
  return row;
}

GateRow option_kl_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  Sample sample;
  for (const ItemPair& pair : pairs) {
    if (has_options(pair)) sample.add(pair, kl_of_options(pair));
  }
  GateRow row{.what = "option KL", .unit = GateUnit::kNats};
  if (sample.values.empty())
    return missing(row.what, row.unit, limit, "no item has the same options in both reports");
  row = mean_row(std::move(row), sample, 1.0, limit);
  if (row.outcome != GateOutcome::kCannotTest || *row.change > *limit)
    judge(row, limit && *row.change > *limit, "the options' probabilities moved");
  return row;
}

GateRow logit_kl_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  Sample sample;
  for (const ItemPair& pair : pairs) {
    if (pair.logit_kl) sample.add(pair, *pair.logit_kl);
  }
  GateRow row{.what = "logit KL", .unit = GateUnit::kNats};
  if (sample.values.empty())
    return missing(row.what, row.unit, limit, "the logits of one report are not there");
  row = mean_row(std::move(row), sample, 1.0, limit);
  if (row.outcome != GateOutcome::kCannotTest || *row.change > *limit)
    judge(row, limit && *row.change > *limit, "the probabilities of the first token moved");
  return row;
}

GateRow margin_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  Sample drops, before, after;
  for (const ItemPair& pair : pairs) {
    if (!pair.before->margin || !pair.after->margin) continue;
    drops.add(pair, *pair.before->margin - *pair.after->margin);
    before.add(pair, *pair.before->margin);
    after.add(pair, *pair.after->margin);
  }
  GateRow row{.what = "margin drop", .unit = GateUnit::kLogits};
  if (drops.values.empty())
    return missing(row.what, row.unit, limit, "no item has a margin in both reports");
  row.reference = mean(before.values);
  row.result = mean(after.values);
  row = mean_row(std::move(row), drops, 1.0, limit);
  const bool failed = limit && *row.change > *limit && row.interval->low > 0.0;
  if (row.outcome != GateOutcome::kCannotTest || failed)
    judge(row, failed, "right options lead by less");
  return row;
}

GateRow length_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  Sample changes;
  double before = 0.0, after = 0.0;
  for (const ItemPair& pair : pairs) {
    changes.add(pair, static_cast<double>(pair.after->tokens - pair.before->tokens));
    before += static_cast<double>(pair.before->tokens);
    after += static_cast<double>(pair.after->tokens);
  }
  const double n = static_cast<double>(pairs.size());
  GateRow row{.what = "answer length", .unit = GateUnit::kTokens};
  row.reference = before / n;
  row.result = after / n;
  row.relative = true;
  if (before == 0.0) return missing(row.what, row.unit, limit, "the reference's answers are empty");
  row = mean_row(std::move(row), changes, before / n, limit);
  const bool excludes_zero = row.interval->low > 0.0 || row.interval->high < 0.0;
  const bool failed = limit && std::abs(*row.change) > *limit && excludes_zero;
  if (row.outcome != GateOutcome::kCannotTest || failed)
    judge(row, failed, *row.change > 0.0 ? "answers are longer" : "answers are shorter");
  return row;
}

GateRow bytes_row(std::string what,
                  std::int64_t reference,
                  std::int64_t result,
                  const Limits& limits) {
  GateRow row{.what = std::move(what), .unit = GateUnit::kBytes, .relative = true};
  row.reference = static_cast<double>(reference);
  row.result = static_cast<double>(result);
  row.change = reference == 0 ? 1.0 : *row.result / *row.reference;
  if (limits.exact_bytes) {
    row.limit = 1.0;
    judge(row, result != reference, join("must be exactly ", reference, " bytes, is ", result));
  } else {
    row.limit = limits.max_bytes_ratio;
    judge(row, row.limit && *row.change > *row.limit, "takes more bytes than the limit allows");
  }
  return row;
}

GateRow memory_row(const Report& result, const Report& reference, std::optional<double> limit) {
  GateRow row{.what = "peak memory", .unit = GateUnit::kBytes, .relative = true, .limit = limit};
  row.reference = static_cast<double>(reference.peak_memory_bytes);
  row.result = static_cast<double>(result.peak_memory_bytes);
  if (reference.peak_memory_bytes == 0 || result.peak_memory_bytes == 0)
    return missing(row.what, row.unit, limit, "one report has no peak memory");
  row.change = *row.result / *row.reference;
  if (limit && result.identity.threads != reference.identity.threads) {
    return cannot_test(std::move(row),
                       join("each thread has a sequence of its own: compare runs with as many "
                            "threads, not ",
                            reference.identity.threads, " and ", result.identity.threads));
  }
  judge(row, limit && *row.change > *limit, "takes more memory than the limit allows");
  return row;
}

GateRow speed_row(std::string what,
                  const std::vector<double>& reference,
                  const std::vector<double>& result,
                  const Limits& limits,
                  bool same_cpu) {
  const std::optional<double> limit = limits.min_speed_ratio;
  if (reference.empty() || result.empty())
    return missing(std::move(what), GateUnit::kMultiple, limit, "one report has no speed");
  GateRow row{.what = std::move(what), .unit = GateUnit::kMultiple, .relative = true};
  row.limit = limit;
  row.reference = median(reference);
  row.result = median(result);
  row.change = *row.result / *row.reference;
  const Interval before = median_range(reference), after = median_range(result);
  row.interval = GateRange{after.low / before.high, after.high / before.low};
  if (!limit) return row;
  if (!same_cpu && limits.other_cpu == OtherCpu::kSkip) {
    row.outcome = GateOutcome::kSkipped;
    row.why = "another CPU than the reference's";
    return row;
  }
  if (!same_cpu && limits.other_cpu == OtherCpu::kRefuse) {
    return cannot_test(std::move(row),
                       "another CPU than the reference's; other_cpu: skip or judge allows it");
  }
  if (row.interval->low >= *limit) {
    judge(row, false, "");
    return row;
  }
  judge(row, *row.change < *limit && row.interval->high < 1.0,
        "slower, measured against float in the same run");
  // What is allowed must be more than what the clock is unsure of.
  const double unsure = 1.0 - row.interval->low / *row.change;
  if (row.outcome == GateOutcome::kPass && unsure > 1.0 - *limit) {
    return cannot_test(std::move(row),
                       join("the rounds leave it open by ", points(unsure), ": a busy machine"));
  }
  return row;
}

}  // namespace qvlm
