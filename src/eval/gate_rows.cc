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

  std::size_t group_count() const { return numbers_.size(); }

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

// Fewer images say nothing about others: their interval is a guess, and without a spread it is a
// point.
constexpr std::size_t kLeastGroups = 30;

// A limit on a share that allows fewer items than these, but some, is left to chance.
constexpr int kLeastAllowed = 2;

// Whether a mean is beyond its limit, and why it cannot be told.
struct MeanRule {
  // A failure is also an interval that excludes 0: for changes that go either way by chance. A
  // divergence does not.
  bool excludes_zero = true;
  bool one_sided = false;     // a change below 0 is no failure
  std::int64_t expected = 0;  // items that have the quantity on either side
};

// The part that rows about means share. `change`: what the limit is about, in units of `scale`.
GateRow mean_row(GateRow row,
                 const Sample& sample,
                 double scale,
                 std::optional<double> limit,
                 const MeanRule& rule,
                 const std::string& why) {
  const Interval interval = bootstrap_mean(sample.values, sample.groups);
  row.change = mean(sample.values) / scale;
  row.interval = GateRange{interval.low / scale, interval.high / scale};
  row.items = std::ssize(sample.values);
  row.limit = limit;
  const double half = interval.half_width() / scale;
  const double allowed = limit.value_or(0.0);
  row.detectable =
      rule.excludes_zero ? detectable_mean(half, allowed) : allowed + detectable_excess(half);
  if (!limit) return row;
  const bool is_certain =
      !rule.excludes_zero || row.interval->low > 0.0 || row.interval->high < 0.0;
  const double size = rule.one_sided ? *row.change : std::abs(*row.change);
  if (size > *limit && is_certain) {
    judge(row, true, why);
    return row;
  }
  if (row.items < rule.expected) {
    return cannot_test(std::move(row), join("only ", row.items, " of ", rule.expected,
                                            " items have the same options in both reports"));
  }
  if (sample.group_count() < kLeastGroups) {
    return cannot_test(std::move(row), join("a mean needs ", kLeastGroups, " images or more, got ",
                                            sample.group_count()));
  }
  const double smallest = rule.excludes_zero ? detectable_mean(half) : detectable_excess(half);
  if (*limit < smallest) {
    return cannot_test(std::move(row), join("these ", row.items, " items show a change from ",
                                            smallest, " on, the limit is ", *limit));
  }
  judge(row, false, "");
  return row;
}

double kl_of_options(const ItemPair& pair) {
  return kl_divergence(pair.before->option_logits, pair.after->option_logits);
}

bool has_options(const ItemPair& pair) {
  return pair.after->options.size() > 1 || pair.before->options.size() > 1;
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
  const double smallest = detectable_loss(row.items, win_rate, 0.0);
  row.detectable = limit ? detectable_loss(row.items, win_rate, *limit) : smallest;
  if (!limit) return row;
  if (is_loss(row.lost, row.won, n * *limit) && row.interval->low > 0.0) {
    judge(row, true,
          join("lost ", row.lost, " right answers and won ", row.won, " of ", row.items));
    return row;
  }
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
  row.detectable = detectable_share(row.items, limit.value_or(0.0));
  const double allowed = limit.value_or(0.0) * static_cast<double>(row.items);
  // 0 asks for no change at all, which any number of items can show.
  if (limit && *row.change <= *limit && allowed > 0.0 && allowed < kLeastAllowed) {
    return cannot_test(std::move(row),
                       join(points(*limit), " of ", row.items, " items is less than ",
                            kLeastAllowed, " of them: chance would decide; 0 allows none"));
  }
  judge(row, limit && *row.change > *limit, "more answers changed than the limit allows");
  return row;
}

GateRow option_kl_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  Sample sample;
  MeanRule rule{.excludes_zero = false};
  for (const ItemPair& pair : pairs) {
    if (!has_options(pair)) continue;
    ++rule.expected;
    if (pair.before->options == pair.after->options) sample.add(pair, kl_of_options(pair));
  }
  GateRow row{.what = "option KL", .unit = GateUnit::kNats};
  if (sample.values.empty())
    return missing(row.what, row.unit, limit, "no item has the same options in both reports");
  return mean_row(std::move(row), sample, 1.0, limit, rule, "the options' probabilities moved");
}

GateRow logit_kl_row(const std::vector<ItemPair>& pairs,
                     std::optional<double> limit,
                     const std::string& why_missing) {
  Sample sample;
  for (const ItemPair& pair : pairs) {
    if (pair.logit_kl) sample.add(pair, *pair.logit_kl);
  }
  GateRow row{.what = "logit KL", .unit = GateUnit::kNats};
  if (sample.values.empty()) return missing(row.what, row.unit, limit, why_missing);
  return mean_row(std::move(row), sample, 1.0, limit, {.excludes_zero = false},
                  "the probabilities of the first token moved");
}

GateRow margin_row(const std::vector<ItemPair>& pairs, std::optional<double> limit) {
  Sample drops, before, after;
  MeanRule rule;
  for (const ItemPair& pair : pairs) {
    rule.expected += pair.before->margin || pair.after->margin ? 1 : 0;
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
  rule.one_sided = true;
  return mean_row(std::move(row), drops, 1.0, limit, rule, "right options lead by less");
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
  return mean_row(std::move(row), changes, before / n, limit, {},
                  after > before ? "answers are longer" : "answers are shorter");
}

GateRow bytes_row(std::string what,
                  std::int64_t reference,
                  std::int64_t result,
                  const Limits& limits) {
  const auto limit = limits.exact_bytes ? std::optional(1.0) : limits.max_bytes_ratio;
  if (reference == 0 || result == 0)
    return missing(std::move(what), GateUnit::kBytes, limit, "one report does not have it");
  GateRow row{.what = std::move(what), .unit = GateUnit::kBytes, .relative = true, .limit = limit};
  row.reference = static_cast<double>(reference);
  row.result = static_cast<double>(result);
  row.change = *row.result / *row.reference;
  if (limits.exact_bytes) {
    judge(row, result != reference, join("must be exactly ", reference, " bytes, is ", result));
  } else {
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
  const bool is_slow = *row.change < *limit;
  // What is allowed must be more than what the clock is unsure of.
  const double unsure = 1.0 - row.interval->low / *row.change;
  const bool passes = row.interval->low >= *limit || (!is_slow && unsure <= 1.0 - *limit);
  const bool fails = is_slow && row.interval->high < std::max(1.0, *limit);
  if (!passes && !fails) {
    return cannot_test(std::move(row),
                       join("the rounds leave it open by ", points(unsure), ": a busy machine"));
  }
  judge(row, fails, "slower, measured against float in the same run");
  return row;
}

}  // namespace qvlm
