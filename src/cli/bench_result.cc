#include "cli/bench_result.h"

#include <qvlm/kernels.h>

#include <algorithm>

#include "base/parallel.h"
#include "cli/format.h"
#include "cli/table.h"
#include "eval/metrics.h"
#include "io/kv_format.h"
#include "model/linear_list.h"

namespace qvlm::cli {
namespace {

double rate(std::int64_t tokens, double seconds) {
  return static_cast<double>(tokens) / seconds;
}

std::string model_name(const BenchCommand& command) {
  if (command.synthetic.empty()) return command.model;
  const std::string cut =
      command.layers > 0 ? ", " + std::to_string(command.layers) + " layers" : "";
  return "synthetic " + command.synthetic + cut;
}

// Prediction for the whole process: what it took before loading is measured.
std::int64_t predicted_resident(const BenchRow& row) {
  return row.median.memory_before + row.plan.resident();
}

Json row_json(const BenchCommand& command, const BenchResult& result, const BenchRow& row) {
  Json json = Json::object();
  json.set("name", row.name);
  json.set("arithmetic", row.arithmetic);
  json.set("predicted_weights_bytes", row.plan.weights);
  json.set("predicted_kv_cache_bytes", row.plan.kv_cache);
  json.set("predicted_activations_bytes", row.plan.activations);
  if (!row.left_out.empty()) {
    json.set("left_out", row.left_out);
    return json;
  }
  const BenchSample& median = row.median;
  json.set("load_seconds", median.load_seconds);
  json.set("image_seconds", median.image_seconds);
  json.set("prefill_tokens_per_second", rate(result.prompt_tokens, median.prefill_seconds));
  json.set("decode_tokens_per_second", rate(command.new_tokens, median.decode_seconds));
  json.set("prefill_seconds", median.prefill_seconds);
  json.set("prefill_other_seconds", median.prefill_other_seconds);
  json.set("decode_seconds", median.decode_seconds);
  json.set("decode_other_seconds", median.decode_other_seconds);
  json.set("memory_before_bytes", median.memory_before);
  json.set("memory_resident_bytes", median.memory_resident);
  json.set("memory_peak_bytes", median.memory_peak);
  return json;
}

std::vector<std::string> row_cells(const BenchCommand& command,
                                   const BenchResult& result,
                                   const BenchRow& row) {
  const BenchSample& median = row.median;
  if (!row.left_out.empty()) {
    return {row.name, "-", "-", "-", "-", "-", "-", format_bytes(row.plan.peak()), "-", "-"};
  }
  const auto share = [](double part, double whole) {
    return format_fixed(100.0 * part / whole, 0) + " %";
  };
  return {row.name,
          format_seconds(median.load_seconds),
          format_fixed(1e3 * median.image_seconds, 1) + " ms",
          format_fixed(rate(result.prompt_tokens, median.prefill_seconds), 1),
          share(median.prefill_other_seconds, median.prefill_seconds),
          format_fixed(rate(command.new_tokens, median.decode_seconds), 1),
          share(median.decode_other_seconds, median.decode_seconds),
          format_bytes(predicted_resident(row)),
          format_bytes(median.memory_resident),
          format_bytes(median.memory_peak)};
}

}  // namespace

BenchSample median_of(const std::vector<BenchSample>& samples) {
  const auto middle = [&](auto BenchSample::*member) {
    std::vector<double> values;
    for (const BenchSample& sample : samples)
      values.push_back(static_cast<double>(sample.*member));
    return median(values);
  };
  BenchSample result;
  for (const auto member : {&BenchSample::load_seconds, &BenchSample::image_seconds,
                            &BenchSample::prefill_seconds, &BenchSample::prefill_other_seconds,
                            &BenchSample::decode_seconds, &BenchSample::decode_other_seconds})
    result.*member = middle(member);
  for (const auto member :
       {&BenchSample::memory_before, &BenchSample::memory_resident, &BenchSample::memory_peak})
    result.*member = static_cast<std::int64_t>(middle(member));
  return result;
}

std::string describe_arithmetic(const ModelConfig& config, const Variant& variant) {
  std::map<Arithmetic, double> weights;
  double total = 0.0;
  for (const LinearShape& linear : list_linears(config)) {
    const auto found = variant.schemes.find(linear.name);
    const auto scheme =
        found == variant.schemes.end() ? std::nullopt : std::optional(found->second);
    const auto count = static_cast<double>(linear.out * linear.in);
    weights[arithmetic_of(scheme, variant.execution)] += count;
    total += count;
  }
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [arithmetic, count] : weights)
    order.emplace_back(-count, arithmetic_name(arithmetic));
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [count, name] : order)
    text +=
        (text.empty() ? "" : ", ") + name + " " + format_fixed(-100.0 * count / total, 0) + " %";
  return text;
}

Json to_json(const BenchCommand& command, const BenchResult& result) {
  Json json = Json::object(), rows = Json::array(), left_out = Json::array();
  for (const BenchRow& row : result.rows)
    rows.append(row_json(command, result, row));
  for (const std::string& reason : result.left_out)
    left_out.append(reason);
  json.set("model", model_name(command));
  json.set("threads", thread_count());
  json.set("cpu_level", kernels::cpu_level_name(kernels::cpu_level()));
  json.set("prompt_tokens", result.prompt_tokens);
  json.set("new_tokens", command.new_tokens);
  json.set("kv_cache", kv_format_name(result.kv_cache));
  json.set("repeats", command.repeats);
  json.set("variants", rows);
  json.set("left_out", left_out);
  return json;
}

std::string to_text(const BenchCommand& command, const BenchResult& result) {
  Table table({{"variant", Table::Align::kLeft},
               {"load"},
               {"image"},
               {"prefill/s"},
               {"other"},
               {"decode/s"},
               {"other"},
               {"predicted"},
               {"resident"},
               {"peak"}});
  std::string notes;
  for (const BenchRow& row : result.rows) {
    table.add_row(row_cells(command, result, row));
    notes += row.name + ": " + (row.left_out.empty() ? row.arithmetic : row.left_out) + "\n";
  }
  for (const std::string& reason : result.left_out)
    notes += "left out: " + reason + "\n";
  return model_name(command) + "\n\n" + table.text() + "\n" + notes + "prefill of " +
         std::to_string(result.prompt_tokens) + " tokens, decode of " +
         std::to_string(command.new_tokens) + ", keys and values in " +
         kv_format_name(result.kv_cache) + "; other: share of the time outside the products\n" +
         "median of " + std::to_string(command.repeats) + " rounds over all variants, " +
         std::to_string(thread_count()) + " threads, CPU level " +
         std::string(kernels::cpu_level_name(kernels::cpu_level())) +
         "; predicted: resident set; 1 MB = 1 000 000 bytes\n";
}

}  // namespace qvlm::cli
