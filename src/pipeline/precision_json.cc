// What mixed precision chose, as JSON.
#include "pipeline/search_json.h"

namespace qvlm {
namespace {

Json unit_to_json(const UnitPrecision& unit) {
  Json linears = Json::array();
  for (const std::string& name : unit.linears)
    linears.append(name);
  Json json = Json::object();
  json.set("layer", unit.layer);
  json.set("linears", linears);
  json.set("scheme", unit.scheme);
  json.set("least_divergence", unit.least_divergence);
  json.set("divergence", unit.divergence);
  return json;
}

UnitPrecision unit_from_json(const Json& node) {
  return {node.get_int("layer"), node.get("linears").as_strings(), node.get_string("scheme"),
          node.get_double("least_divergence"), node.get_double("divergence")};
}

}  // namespace

Json precision_to_json(const PrecisionReport& report) {
  Json units = Json::array();
  for (const UnitPrecision& unit : report.units)
    units.append(unit_to_json(unit));
  Json json = Json::object();
  json.set("units", units);
  json.set("raised", report.raised);
  json.set("bits_per_weight", report.bits_per_weight);
  json.set("least_bits", report.least_bits);
  if (report.bits_per_activation) json.set("bits_per_activation", *report.bits_per_activation);
  json.set("divergence", report.divergence);
  json.set("least_divergence", report.least_divergence);
  json.set("forwards", report.forwards);
  return json;
}

PrecisionReport precision_from_json(const Json& node) {
  PrecisionReport report;
  const Json units = node.get("units");
  for (std::size_t i = 0; i < units.size(); ++i)
    report.units.push_back(unit_from_json(units.at(i)));
  report.raised = node.get_int("raised");
  report.bits_per_weight = node.get_double("bits_per_weight");
  report.least_bits = node.get_double("least_bits");
  if (node.contains("bits_per_activation"))
    report.bits_per_activation = node.get_double("bits_per_activation");
  report.divergence = node.get_double("divergence");
  report.least_divergence = node.get_double("least_divergence");
  report.forwards = node.get_int("forwards");
  return report;
}

}  // namespace qvlm
