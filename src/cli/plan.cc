// qvlm plan: what quantize would do, and what that takes; writes nothing.
#include <qvlm/plan.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/components.h"
#include "cli/format.h"
#include "cli/search_text.h"
#include "cli/table.h"
#include "pipeline/search_json.h"

namespace qvlm::cli {
namespace {

// Linears of one component with one scheme, for one reason.
struct GroupSum {
  std::string component, scheme, rule;
  std::int64_t linears = 0, parameters = 0, source_bytes = 0, result_bytes = 0;
};

std::vector<GroupSum> sum_groups(const std::vector<PlannedLinear>& linears) {
  LinearGroups groups;
  for (std::size_t i = 0; i < linears.size(); ++i)
    groups.add(i, linears[i].name, linears[i].scheme + "\n" + linears[i].rule);
  std::vector<GroupSum> sums;
  for (const LinearGroup& group : groups.list()) {
    const PlannedLinear& first = linears[group.members.front()];
    GroupSum sum{group.component, first.scheme, first.rule};
    for (const std::size_t member : group.members) {
      ++sum.linears;
      sum.parameters += linears[member].out * linears[member].in;
      sum.source_bytes += linears[member].source_bytes;
      sum.result_bytes += linears[member].result_bytes;
    }
    sums.push_back(sum);
  }
  return sums;
}

Json linears_json(const std::vector<PlannedLinear>& linears) {
  Json list = Json::array();
  for (const PlannedLinear& linear : linears) {
    Json entry = Json::object();
    entry.set("name", linear.name);
    entry.set("out", linear.out);
    entry.set("in", linear.in);
    entry.set("scheme", linear.scheme);
    entry.set("rule", linear.rule);
    entry.set("source_bytes", linear.source_bytes);
    entry.set("result_bytes", linear.result_bytes);
    list.append(entry);
  }
  return list;
}

Json data_json(const PlannedData& data) {
  Json json = Json::object();
  json.set("items", data.items);
  set_calibration(data.calibration, json);
  return json;
}

Json search_json(const PlannedSearch& search) {
  Json json = Json::object();
  json.set("samples", search.samples);
  json.set("tokens", search.tokens);
  json.set("least_forwards", search.least_forwards);
  json.set("most_forwards", search.most_forwards);
  json.set("allowed_forwards", search.allowed_forwards);  // null: no limit
  json.set("planned_forwards", search.planned_forwards ? Json(*search.planned_forwards) : Json());
  json.set("forward_seconds", search.forward_seconds);
  json.set("other_seconds", search.other_seconds);
  return json;
}

Json memory_json(const PlannedMemory& memory) {
  Json json = Json::object();
  json.set("quantizing_bytes", memory.quantizing);
  json.set("running_positions", memory.positions);
  json.set("running_bytes", memory.running());
  json.set("weights_bytes", memory.weights);
  json.set("kv_cache_bytes", memory.kv_cache);
  json.set("activations_bytes", memory.activations);
  return json;
}

Json to_json(const PlanCommand& command, const Recipe& recipe, const QuantizePlan& plan) {
  Json json = Json::object(), notes = Json::array();
  for (const std::string& note : plan.notes)
    notes.append(note);
  json.set("model", command.model);
  json.set("recipe", recipe.name);
  json.set("source_bytes", plan.source_bytes);
  json.set("result_bytes", plan.result_bytes);
  json.set("linears", linears_json(plan.linears));
  json.set("data", plan.data ? data_json(*plan.data) : Json());
  json.set("search", plan.search ? search_json(*plan.search) : Json());
  json.set("vision_encoder_seconds_estimate", plan.vision_encoder_seconds);
  json.set("memory", memory_json(plan.memory));
  json.set("least_seconds_estimate", plan.least_seconds);
  json.set("most_seconds_estimate", plan.most_seconds);
  json.set("flops_per_second", plan.flops_per_second);
  json.set("notes", notes);
  return json;
}

void print_groups(const QuantizePlan& plan) {
  Table table({{"linears of", Table::Align::kLeft},
               {"scheme", Table::Align::kLeft},
               {"count"},
               {"parameters"},
               {"bytes before"},
               {"after"},
               {"rule", Table::Align::kLeft}});
  std::int64_t others = plan.source_bytes;
  for (const GroupSum& sum : sum_groups(plan.linears)) {
    table.add_row({sum.component, sum.scheme, std::to_string(sum.linears),
                   format_count(sum.parameters), format_bytes(sum.source_bytes),
                   format_bytes(sum.result_bytes), sum.rule});
    others -= sum.source_bytes;
  }
  table.add_row({"other tensors", "", "", "", format_bytes(others), format_bytes(others), ""});
  table.add_rule();
  table.add_row({"all tensors", "", std::to_string(plan.linears.size()), "",
                 format_bytes(plan.source_bytes), format_bytes(plan.result_bytes), ""});
  std::cout << table.text() << "\n";
}

void print_linears(const std::vector<PlannedLinear>& linears) {
  Table table({{"linear", Table::Align::kLeft},
               {"shape", Table::Align::kLeft},
               {"scheme", Table::Align::kLeft},
               {"bytes before"},
               {"after"},
               {"rule", Table::Align::kLeft}});
  for (const PlannedLinear& linear : linears) {
    table.add_row({linear.name,
                   "[" + std::to_string(linear.out) + ", " + std::to_string(linear.in) + "]",
                   linear.scheme, format_bytes(linear.source_bytes),
                   format_bytes(linear.result_bytes), linear.rule});
  }
  std::cout << table.text() << "\n";
}

std::string search_text(const PlannedSearch& search, int max_depth) {
  std::string text = "search       layer-forwards: " + format_fixed(search.least_forwards, 0) +
                     " one layer at a time, " + format_fixed(search.most_forwards, 0) +
                     " in blocks of " + std::to_string(max_depth) + " everywhere; ";
  text += std::isfinite(search.allowed_forwards)
              ? format_fixed(search.allowed_forwards, 0) + " allowed"
              : "no limit but the threshold";
  if (search.planned_forwards)
    text += ", " + format_fixed(*search.planned_forwards, 0) + " planned";
  return text + "\n             estimated " + format_seconds(search.forward_seconds) +
         " each, and " + format_seconds(search.other_seconds) + " for everything around them\n";
}

std::string memory_text(const PlannedMemory& memory) {
  return "memory       quantizing takes about " + format_bytes(memory.quantizing) +
         "; running the result about " + format_bytes(memory.running()) + ": weights " +
         format_bytes(memory.weights) + ", key-value cache " + format_bytes(memory.kv_cache) +
         " and activations " + format_bytes(memory.activations) + " at " +
         std::to_string(memory.positions) + " positions\n";
}

std::string time_text(const QuantizePlan& plan) {
  const std::string least = format_seconds(plan.least_seconds);
  const std::string most = format_seconds(plan.most_seconds);
  return "time         estimated " + (least == most ? most : least + " to " + most) +
         ", from products measured here just now: " + format_fixed(plan.flops_per_second / 1e9, 1) +
         " GFLOP/s in float32\n";
}

}  // namespace

void run(const PlanCommand& command, const CommonOptions& common) {
  const Recipe recipe = command.recipe.load();
  const QuantizePlan plan =
      plan_quantize(command.model, recipe, {command.data, command.out, command.overwrite});
  if (common.json) {
    std::cout << to_json(command, recipe, plan).dump(2) << "\n";
    return;
  }
  std::cout << "recipe " << recipe.name << " on " << command.model << "; nothing is written\n\n";
  if (command.linears) print_linears(plan.linears);
  print_groups(plan);
  if (plan.data) {
    std::cout << calibration_text(plan.data->calibration) << "             drawn from "
              << format_count(plan.data->items) << " items\n";
  }
  if (recipe.vision_encoder)
    std::cout << "vision       its optimization is estimated to take "
              << format_seconds(plan.vision_encoder_seconds) << "\n";
  if (plan.search) std::cout << search_text(*plan.search, recipe.plan.max_depth);
  std::cout << memory_text(plan.memory) << time_text(plan);
  for (const std::string& note : plan.notes)
    std::cout << "note         " << note << "\n";
  std::cout << "1 MB = 1 000 000 bytes\n";
}

}  // namespace qvlm::cli
