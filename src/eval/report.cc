// Report: counting, and its JSON form.
#include <map>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "eval/metrics.h"
#include "eval/report_items.h"
#include "eval/report_json.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "qvlm-report-2";

Json to_json(const ReportIdentity& identity) {
  Json json = Json::object();
  json.set("model_sha256", identity.model_sha256);
  json.set("data_sha256", identity.data_sha256);
  json.set("tool", identity.tool);
  json.set("cpu", identity.cpu);
  json.set("cpu_level", identity.cpu_level);
  json.set("threads", identity.threads);
  return json;
}

ReportIdentity read_identity(const Json& json) {
  return {json.get_string("model_sha256"), json.get_string("data_sha256"),
          json.get_string("tool"),         json.get_string("cpu"),
          json.get_string("cpu_level"),    static_cast<int>(json.get_int("threads"))};
}

Json to_json(const std::vector<double>& values) {
  Json json = Json::array();
  for (const double value : values)
    json.append(value);
  return json;
}

Json to_json(const SpeedReport& speed) {
  Json json = Json::object();
  json.set("prefill", to_json(speed.prefill));
  json.set("decode", to_json(speed.decode));
  return json;
}

SpeedReport read_speed(const Json& json) {
  const auto read = [&json](const char* key) {
    std::vector<double> values;
    const Json list = json.get(key);
    for (std::size_t i = 0; i < list.size(); ++i)
      values.push_back(list.at(i).as_double());
    require(!values.empty(), ErrorKind::kCorrupt, list.where(), ": expected one number a round");
    return values;
  };
  return {read("prefill"), read("decode")};
}

// `path` as seen from the report's folder, if it lies below it; else as an absolute path.
fs::path seen_from(const fs::path& path, const fs::path& folder) {
  if (path.empty()) return {};
  const fs::path relative = fs::absolute(path).lexically_normal().lexically_relative(
      fs::absolute(folder / "x").lexically_normal().parent_path());
  const bool below = !relative.empty() && *relative.begin() != "..";
  return below ? relative : fs::absolute(path).lexically_normal();
}

}  // namespace

const char* execution_name(Execution execution) {
  switch (execution) {
    case Execution::kPacked:
      return "packed";
    case Execution::kSimulated:
      return "simulated";
    case Execution::kFloat:
      return "float";
    case Execution::kBf16:
      return "bf16";
  }
  return "";
}

Json to_json(const Share& share) {
  Json json = Json::object();
  json.set("count", share.count);
  json.set("total", share.total);
  json.set("value", share.value);
  json.set("low", share.low);
  json.set("high", share.high);
  return json;
}

Share Report::accuracy() const {
  std::int64_t right = 0;
  for (const ItemResult& item : items)
    right += item.correct ? 1 : 0;
  return make_share(right, static_cast<std::int64_t>(items.size()));
}

std::vector<std::pair<std::string, Share>> Report::accuracy_by_category() const {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> counts;  // right, all
  for (const ItemResult& item : items) {
    auto& [right, all] = counts[item.category];
    right += item.correct ? 1 : 0;
    all += 1;
  }
  std::vector<std::pair<std::string, Share>> shares;
  for (const auto& [category, count] : counts) {
    shares.emplace_back(category, make_share(count.first, count.second));
  }
  return shares;
}

Json products_json(const std::map<std::string, std::int64_t>& products) {
  Json json = Json::object();
  for (const auto& [product, count] : products)
    json.set(product, count);
  return json;
}

Report Report::load(const fs::path& file) {
  const Json json = Json::load(file);
  const std::string format = json.get_string("format");
  require(format == kFormat, ErrorKind::kCorrupt, json.where(), ": format: expected ", kFormat,
          ", got ", format);
  Report report;
  report.model = json.get_string("model");
  report.execution = json.get_string("execution");
  report.kv_cache = json.get_string("kv_cache", "float32");
  report.data = json.get_string("data");
  report.protocol = json.get_string("protocol");
  report.max_new_tokens = json.get_int("max_new_tokens");
  json.find("products").for_each([&report](const std::string& product, const Json& count) {
    report.products[product] = count.as_int();
  });
  report.identity = read_identity(json.get("identity"));
  if (const Json speed = json.find("speed"); !speed.is_null()) report.speed = read_speed(speed);
  report.checkpoint_bytes = json.get_int("checkpoint_bytes");
  report.weight_bytes = json.get_int("weight_bytes");
  report.kv_bytes = json.get_int("kv_bytes");
  report.load_seconds = json.get_double("load_seconds");
  report.seconds = json.get_double("seconds");
  report.peak_memory_bytes = json.get_int("peak_memory_bytes");
  const std::string logits = json.get_string("logits_file", "");
  if (!logits.empty()) report.logits_file = file.parent_path() / logits;
  report.logits_sha256 = json.get_string("logits_sha256", "");
  report.items = read_items(json);
  return report;
}

void Report::save(const fs::path& file) const {
  Json json = Json::object();
  json.set("format", kFormat);
  json.set("model", model);
  json.set("execution", execution);
  json.set("kv_cache", kv_cache);
  json.set("data", data);
  json.set("protocol", protocol);
  json.set("max_new_tokens", max_new_tokens);
  json.set("accuracy", to_json(accuracy()));
  Json categories = Json::object();
  for (const auto& [category, share] : accuracy_by_category())
    categories.set(category, to_json(share));
  json.set("categories", categories);
  json.set("products", products_json(products));
  json.set("identity", to_json(identity));
  json.set("speed", speed ? to_json(*speed) : Json());
  json.set("checkpoint_bytes", checkpoint_bytes);
  json.set("weight_bytes", weight_bytes);
  json.set("kv_bytes", kv_bytes);
  json.set("load_seconds", load_seconds);
  json.set("seconds", seconds);
  json.set("peak_memory_bytes", peak_memory_bytes);
  json.set("logits_file", seen_from(logits_file, file.parent_path()).string());
  json.set("logits_sha256", logits_sha256);
  write_text_file(file, with_items(json, items));
}

}  // namespace qvlm
