#include "pipeline/search_json.h"

#include <limits>
#include <utility>

#include "base/error.h"
#include "model/llama.h"

namespace qvlm {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

std::optional<double> optional_double(const Json& node) {
  return node.is_null() ? std::nullopt : std::optional(node.as_double());
}

// JSON has no infinity: null stands for it.
double double_or_infinite(const Json& node) {
  return node.is_null() ? kInfinite : node.as_double();
}

std::vector<double> list_from(const Json& node) {
  std::vector<double> values;
  for (std::size_t i = 0; i < node.size(); ++i)
    values.push_back(double_or_infinite(node.at(i)));
  return values;
}

Json token_errors_to_json(const TokenErrors& errors) {
  Json json = Json::object();
  json.set("image", errors.image);
  json.set("text", errors.text);
  json.set("answer", errors.answer);
  return json;
}

Json loss_to_json(const VisionLoss& loss) {
  Json json = Json::object();
  json.set("entropy", loss.entropy);
  json.set("tower", loss.tower);
  json.set("output", loss.output);
  json.set("answer", loss.answer);
  json.set("total", loss.total);
  return json;
}

VisionLoss loss_from_json(const Json& node) {
  return {double_or_infinite(node.get("entropy")), double_or_infinite(node.get("tower")),
          double_or_infinite(node.get("output")), double_or_infinite(node.get("answer")),
          double_or_infinite(node.get("total"))};
}

std::optional<VisionLoss> optional_loss(const Json& node) {
  return node.is_null() ? std::nullopt : std::optional(loss_from_json(node));
}

Json channels_to_json(const std::vector<std::int64_t>& channels) {
  Json list = Json::array();
  for (const std::int64_t channel : channels)
    list.append(channel);
  return list;
}

}  // namespace

Json list_to_json(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values)
    list.append(value);
  return list;
}

Json optional_to_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

void set_calibration(const CalibrationReport& report, Json& json) {
  json.set("samples", report.samples);
  json.set("image_tokens", report.image_tokens);
  json.set("text_tokens", report.text_tokens);
  json.set("answer_tokens", report.answer_tokens);
  json.set("data_sha256", report.data_sha256);
}

Json plan_to_json(const BlockPlan& plan) {
  Json blocks = Json::array();
  for (const Block& block : plan.blocks) {
    Json node = Json::object();
    node.set("first", block.first);
    node.set("depth", block.depth);
    node.set("reason", block.reason);
    blocks.append(node);
  }
  Json json = Json::object();
  json.set("strategy", strategy_name(plan.strategy));
  json.set("h0", optional_to_json(plan.h0));
  json.set("budget", plan.budget);
  json.set("cost", plan.cost);
  json.set("gain", plan.gain);
  json.set("blocks", blocks);
  return json;
}

BlockPlan plan_from_json(const Json& node) {
  BlockPlan plan;
  const Json name = node.get("strategy");
  const std::optional<PlanStrategy> strategy = find_strategy(name.as_string());
  require(strategy.has_value(), ErrorKind::kCorrupt, name.where(), ": expected ", kStrategyNames);
  plan.strategy = *strategy;
  plan.h0 = optional_double(node.get("h0"));
  plan.budget = double_or_infinite(node.get("budget"));
  plan.cost = node.get_double("cost");
  plan.gain = node.get_double("gain");
  const Json blocks = node.get("blocks");
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Json block = blocks.at(i);
    plan.blocks.push_back({block.get_int("first"), static_cast<int>(block.get_int("depth")),
                           block.get_string("reason")});
  }
  return plan;
}

Json block_to_json(const BlockReport& block) {
  Json choices = Json::array();
  for (const std::string& choice : block.choices)
    choices.append(choice);
  Json json = Json::object();
  json.set("first", block.first);
  json.set("depth", block.depth);
  json.set("reason", block.reason);
  json.set("choices", choices);
  json.set("start_error", block.start_error);
  json.set("greedy_error", block.greedy_error);
  json.set("error", block.error);
  json.set("held_out_start", block.held_out_start);
  json.set("held_out_error", block.held_out_error);
  json.set("kept", block.kept);
  json.set("token_errors", token_errors_to_json(block.token_errors));
  json.set("forwards", block.forwards);
  return json;
}

BlockReport block_from_json(const Json& node) {
  BlockReport block;
  block.first = node.get_int("first");
  block.depth = static_cast<int>(node.get_int("depth"));
  block.reason = node.get_string("reason");
  block.choices = node.get("choices").as_strings();
  block.start_error = double_or_infinite(node.get("start_error"));
  block.greedy_error = double_or_infinite(node.get("greedy_error"));
  block.error = double_or_infinite(node.get("error"));
  block.held_out_start = double_or_infinite(node.get("held_out_start"));
  block.held_out_error = double_or_infinite(node.get("held_out_error"));
  block.kept = node.get_bool("kept");
  const Json errors = node.get("token_errors");
  block.token_errors = {double_or_infinite(errors.get("image")),
                        double_or_infinite(errors.get("text")),
                        double_or_infinite(errors.get("answer"))};
  block.forwards = node.get_int("forwards");
  return block;
}

Json vision_to_json(const VisionReport& report) {
  Json epochs = Json::array();
  for (const VisionLoss& epoch : report.epochs)
    epochs.append(loss_to_json(epoch));
  Json json = Json::object();
  json.set("epochs", epochs);
  json.set("held_out_start", report.held_out_start ? loss_to_json(*report.held_out_start) : Json());
  json.set("held_out_end", report.held_out_end ? loss_to_json(*report.held_out_end) : Json());
  json.set("kept", report.kept);
  return json;
}

VisionReport vision_from_json(const Json& node) {
  VisionReport report;
  const Json epochs = node.get("epochs");
  for (std::size_t i = 0; i < epochs.size(); ++i)
    report.epochs.push_back(loss_from_json(epochs.at(i)));
  report.held_out_start = optional_loss(node.get("held_out_start"));
  report.held_out_end = optional_loss(node.get("held_out_end"));
  report.kept = node.get_bool("kept");
  return report;
}

Json alphas_to_json(const std::vector<Alphas>& layers) {
  Json list = Json::array();
  for (const Alphas& alphas : layers) {
    Json layer = Json::array();
    for (const std::optional<double>& alpha : alphas)
      layer.append(optional_to_json(alpha));
    list.append(layer);
  }
  return list;
}

std::vector<Alphas> alphas_from_json(const Json& node) {
  std::vector<Alphas> layers(node.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Json layer = node.at(i);
    require(std::cmp_equal(layer.size(), DecoderLayer::kInputs), ErrorKind::kCorrupt, layer.where(),
            ": expected an alpha or null for each of ", DecoderLayer::kInputs, " inputs");
    for (std::size_t input = 0; input < layer.size(); ++input)
      layers[i].push_back(optional_double(layer.at(input)));
  }
  return layers;
}

Json search_to_json(const SearchReport& report) {
  Json blocks = Json::array(), wins = Json::object();
  for (const BlockReport& block : report.blocks)
    blocks.append(block_to_json(block));
  for (const auto& [choice, count] : report.wins)
    wins.set(choice, count);
  Json json = Json::object();
  set_calibration(report.calibration, json);
  if (!report.alphas.empty()) json.set("alphas", alphas_to_json(report.alphas));
  if (!report.massive_channels.empty())
    json.set("massive_channels", channels_to_json(report.massive_channels));
  json.set("strategy", report.strategy);
  json.set("h0", optional_to_json(report.h0));
  json.set("allowed_forwards", report.allowed_forwards);
  json.set("planned_forwards", report.planned_forwards);
  json.set("entropy", list_to_json(report.entropy));
  json.set("blocks", blocks);
  json.set("vision", report.vision ? vision_to_json(*report.vision) : Json());
  json.set("precision", report.precision ? precision_to_json(*report.precision) : Json());
  json.set("answer_divergence", optional_to_json(report.answer_divergence));
  json.set("wins", wins);
  json.set("forwards", report.forwards);
  return json;
}

SearchReport search_from_json(const Json& node) {
  SearchReport report;
  report.calibration = {node.get_int("samples"), node.get_int("image_tokens"),
                        node.get_int("text_tokens"), node.get_int("answer_tokens"),
                        node.get_string("data_sha256")};
  if (const Json alphas = node.find("alphas"); !alphas.is_null())
    report.alphas = alphas_from_json(alphas);
  if (const Json channels = node.find("massive_channels"); !channels.is_null())
    report.massive_channels = channels.as_ints();
  report.strategy = node.get_string("strategy");
  report.h0 = optional_double(node.get("h0"));
  report.allowed_forwards = double_or_infinite(node.get("allowed_forwards"));
  report.planned_forwards = node.get_double("planned_forwards");
  report.entropy = list_from(node.get("entropy"));
  const Json blocks = node.get("blocks");
  for (std::size_t i = 0; i < blocks.size(); ++i)
    report.blocks.push_back(block_from_json(blocks.at(i)));
  if (const Json vision = node.get("vision"); !vision.is_null()) {
    report.vision = vision_from_json(vision);
    const bool whole =
        report.vision->held_out_start.has_value() == report.vision->held_out_end.has_value();
    require(whole && !report.vision->epochs.empty(), ErrorKind::kCorrupt, vision.where(),
            ": is not finished");
  }
  // Folders of before these were measured do not have them.
  if (const Json precision = node.find("precision"); !precision.is_null())
    report.precision = precision_from_json(precision);
  report.answer_divergence = optional_double(node.find("answer_divergence"));
  node.get("wins").for_each(
      [&](const std::string& choice, const Json& count) { report.wins[choice] = count.as_int(); });
  report.forwards = node.get_int("forwards");
  return report;
}

}  // namespace qvlm
