#include "cli/report_table.h"

#include <filesystem>

#include "cli/format.h"
#include "eval/report_json.h"

namespace qvlm::cli {
namespace {

// The folder's own name; execution and cache only where they are not the usual ones.
std::string label(const Report& report) {
  const auto path = (std::filesystem::path(report.model) / "").parent_path();
  const std::string name = path.filename().empty() ? report.model : path.filename().string();
  const std::string how = report.execution == "packed" ? "" : " (" + report.execution + ")";
  const std::string cache = report.kv_cache == "float32" ? "" : " (kv " + report.kv_cache + ")";
  return name + how + cache;
}

std::string format_flips(const Comparison& comparison) {
  return std::to_string(comparison.lost) + "/" + std::to_string(comparison.won) + " (p " +
         format_p(comparison.mcnemar_p) + ")";
}

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json comparison_json(const Comparison& comparison) {
  Json json = Json::object();
  json.set("agreement", to_json(comparison.agreement));
  json.set("lost", comparison.lost);
  json.set("won", comparison.won);
  json.set("mcnemar_p", comparison.mcnemar_p);
  json.set("kl_mean", optional_json(comparison.kl_mean));
  json.set("kl_median", optional_json(comparison.kl_median));
  json.set("kl_trimmed_mean", optional_json(comparison.kl_trimmed_mean));
  json.set("margin_change", optional_json(comparison.margin_change));
  return json;
}

}  // namespace

Table report_table(const std::vector<ComparedReport>& reports) {
  Table table({{"model", Table::Align::kLeft},
               {"accuracy [95 %]"},
               {"agreement"},
               {"lost/won (McNemar)"},
               {"KL mean"},
               {"KL median"},
               {"margin"},
               {"checkpoint"},
               {"time"},
               {"peak memory"},
               {"matrix products", Table::Align::kLeft}});
  for (const auto& [report, comparison] : reports) {
    const auto compared = [&](auto format) {
      return comparison ? format(*comparison) : std::string("-");
    };
    table.add_row({label(report), format_accuracy(report.accuracy()),
                   compared([](const Comparison& c) { return format_percent(c.agreement.value); }),
                   compared(format_flips),
                   compared([](const Comparison& c) { return format_small(c.kl_mean); }),
                   compared([](const Comparison& c) { return format_small(c.kl_median); }),
                   compared([](const Comparison& c) { return format_signed(c.margin_change); }),
                   format_bytes(report.checkpoint_bytes), format_seconds(report.seconds),
                   format_bytes(report.peak_memory_bytes), describe_products(report)});
  }
  return table;
}

std::string describe_products(const Report& report) {
  std::string text;
  for (const auto& [product, count] : report.products)
    text += (text.empty() ? "" : "; ") + std::to_string(count) + " " + product;
  return text;
}

Table category_table(const Report& report) {
  Table table({{"category", Table::Align::kLeft}, {"items"}, {"right"}, {"accuracy [95 %]"}});
  const auto add = [&table](const std::string& name, const Share& share) {
    table.add_row(
        {name, std::to_string(share.total), std::to_string(share.count), format_accuracy(share)});
  };
  const auto categories = report.accuracy_by_category();
  if (categories.size() > 1) {
    for (const auto& [category, share] : categories)
      add(category.empty() ? "(none)" : category, share);
    table.add_rule();
  }
  add("all", report.accuracy());
  return table;
}

std::string describe_comparison(const Comparison& comparison) {
  std::string text = "same answer    " + format_accuracy(comparison.agreement) + "\n";
  text += "lost, won      " + std::to_string(comparison.lost) + ", " +
          std::to_string(comparison.won) + "; exact McNemar p " + format_p(comparison.mcnemar_p) +
          "\n";
  text += "logit KL       mean " + format_small(comparison.kl_mean) + ", median " +
          format_small(comparison.kl_median) + ", without the highest 1 % " +
          format_small(comparison.kl_trimmed_mean) + "\n";
  text += "option margin  " + format_signed(comparison.margin_change) + "\n";
  return text;
}

Json summary_json(const ComparedReport& compared) {
  const Report& report = compared.report;
  Json json = Json::object(), categories = Json::object();
  for (const auto& [category, share] : report.accuracy_by_category())
    categories.set(category, to_json(share));
  json.set("model", report.model);
  json.set("execution", report.execution);
  json.set("kv_cache", report.kv_cache);
  json.set("data", report.data);
  json.set("protocol", report.protocol);
  json.set("accuracy", to_json(report.accuracy()));
  json.set("categories", categories);
  json.set("products", products_json(report.products));
  json.set("checkpoint_bytes", report.checkpoint_bytes);
  json.set("load_seconds", report.load_seconds);
  json.set("seconds", report.seconds);
  json.set("peak_memory_bytes", report.peak_memory_bytes);
  json.set("comparison", compared.comparison ? comparison_json(*compared.comparison) : Json());
  return json;
}

}  // namespace qvlm::cli
