#include "eval/report_items.h"

#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"

namespace qvlm {
namespace {

using OptionLists = std::map<std::vector<std::string>, std::int64_t>;  // and their places

Json to_json(const std::vector<std::string>& texts) {
  Json json = Json::array();
  for (const std::string& text : texts)
    json.append(text);
  return json;
}

// The double with the fewest digits that reads back as this float.
double shortest(float value) {
  if (!std::isfinite(value)) return value;
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  double result = 0.0;
  std::from_chars(digits, end, result);
  return result;
}

Json to_json(const ItemResult& item, OptionLists& lists) {
  Json json = Json::object();
  json.set("id", item.id);
  json.set("images", to_json(item.images));
  json.set("category", item.category);
  json.set("answer", item.answer);
  json.set("prediction", item.prediction);
  json.set("correct", item.correct);
  json.set("tokens", item.tokens);
  json.set("margin", item.margin ? Json(*item.margin) : Json());
  const auto place = lists.try_emplace(item.options, static_cast<std::int64_t>(lists.size())).first;
  json.set("options", place->second);
  Json logits = Json::array();
  for (const float logit : item.option_logits)
    logits.append(shortest(logit));
  json.set("option_logits", logits);
  return json;
}

ItemResult read_item(const Json& json, const std::vector<std::vector<std::string>>& lists) {
  ItemResult item;
  item.id = json.get_string("id");
  item.images = json.get("images").as_strings();
  item.category = json.get_string("category");
  item.answer = json.get_string("answer");
  item.prediction = json.get_string("prediction");
  item.correct = json.get_bool("correct");
  item.tokens = json.get_int("tokens");
  const Json margin = json.get("margin");
  if (!margin.is_null()) item.margin = margin.as_double();
  const std::int64_t place = json.get_int("options");
  require(place >= 0 && place < std::ssize(lists), ErrorKind::kCorrupt, json.where(),
          ": there is no option list ", place);
  item.options = lists[static_cast<std::size_t>(place)];
  const Json logits = json.get("option_logits");
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // A logit that was no number was written as null.
    item.option_logits.push_back(
        logits.at(i).is_null() ? std::nanf("") : static_cast<float>(logits.at(i).as_double()));
  }
  require(item.option_logits.size() == item.options.size(), ErrorKind::kCorrupt, json.where(),
          ": expected ", item.options.size(), " option_logits, got ", item.option_logits.size());
  return item;
}

// A JSON array with one element a line.
std::string one_a_line(const std::vector<Json>& elements) {
  std::string text = "[";
  for (const Json& element : elements)
    text += (text.size() > 1 ? ",\n  " : "\n  ") + element.dump();
  return text + "\n ]";
}

}  // namespace

std::string with_items(const Json& report, const std::vector<ItemResult>& items) {
  OptionLists lists;
  std::vector<Json> rows;
  for (const ItemResult& item : items)
    rows.push_back(to_json(item, lists));
  std::vector<Json> in_order(lists.size());
  for (const auto& [options, place] : lists)
    in_order[static_cast<std::size_t>(place)] = to_json(options);
  std::string text = report.dump(1);
  text.resize(text.rfind("\n}"));
  return text + ",\n \"option_lists\": " + one_a_line(in_order) +
         ",\n \"items\": " + one_a_line(rows) + "\n}\n";
}

std::vector<ItemResult> read_items(const Json& report) {
  std::vector<std::vector<std::string>> lists;
  const Json option_lists = report.get("option_lists");
  for (std::size_t i = 0; i < option_lists.size(); ++i)
    lists.push_back(option_lists.at(i).as_strings());
  const Json rows = report.get("items");
  std::vector<ItemResult> items;
  std::set<std::string> ids;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    items.push_back(read_item(rows.at(i), lists));
    const std::string& id = items.back().id;
    require(ids.insert(id).second, ErrorKind::kCorrupt, rows.at(i).where(), ": the id '", id,
            "' was there before");
  }
  return items;
}

}  // namespace qvlm
