// An analysis on disk: the numbers as JSON, the page beside them.
#include <qvlm/analyze.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "pipeline/analysis_page.h"
#include "pipeline/search_json.h"

namespace qvlm {
namespace {

Json layers_json(const std::vector<LayerAnalysis>& layers) {
  Json list = Json::array();
  for (const LayerAnalysis& layer : layers) {
    Json node = Json::object();
    node.set("name", layer.name);
    node.set("entropy", layer.entropy);
    node.set("dependency", layer.dependency);
    node.set("level_share", layer.level_share);
    node.set("forward_seconds", layer.forward_seconds);
    node.set("error", layer.error);
    list.append(node);
  }
  return list;
}

Json plan_json(const PlanAnalysis& plan) {
  Json blocks = Json::array();
  for (const PlannedBlock& block : plan.blocks) {
    Json node = Json::object();
    node.set("first", block.first);
    node.set("depth", block.depth);
    node.set("reason", block.reason);
    blocks.append(node);
  }
  Json json = Json::object();
  json.set("strategy", plan.strategy);
  json.set("h0", optional_to_json(plan.h0));
  json.set("cost", plan.cost);
  json.set("gain", plan.gain);
  json.set("blocks", blocks);
  return json;
}

Json gains_json(const std::vector<JointGainAnalysis>& gains) {
  Json list = Json::array();
  for (const JointGainAnalysis& gain : gains) {
    Json node = Json::object();
    node.set("first", gain.first);
    node.set("greedy_error", list_to_json(gain.greedy_error));
    node.set("joint_error", list_to_json(gain.joint_error));
    list.append(node);
  }
  return list;
}

}  // namespace

std::string analysis_to_json(const Analysis& analysis) {
  Json plans = Json::array(), json = Json::object();
  for (const PlanAnalysis& plan : analysis.plans)
    plans.append(plan_json(plan));
  json.set("model", analysis.model);
  json.set("data", analysis.data);
  json.set("recipe", analysis.recipe);
  set_calibration(analysis.calibration, json);
  json.set("tau", analysis.tau);
  json.set("budget", analysis.budget);
  json.set("max_depth", analysis.max_depth);
  json.set("decoder", layers_json(analysis.decoder));
  json.set("vision", layers_json(analysis.vision));
  json.set("joint_gains", gains_json(analysis.joint_gains));
  json.set("plans", plans);
  json.set("seconds", analysis.seconds);
  return json.dump(1) + "\n";
}

void write_analysis(const Analysis& analysis, const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  require(!code, ErrorKind::kIo, "cannot create ", folder.string(), ": ", code.message());
  write_text_file(folder / "analysis.json", analysis_to_json(analysis));
  write_text_file(folder / "index.html", make_analysis_page(analysis));
}

}  // namespace qvlm
