#include "pipeline/search_journal.h"

#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm {
namespace {

constexpr const char* kFormat = "qvlm-search-5";

Json settings_to_json(const std::vector<Setting>& settings) {
  Json list = Json::array();
  for (const Setting& setting : settings) {
    Json values = Json::array();
    for (const int value : setting)
      values.append(value);
    list.append(values);
  }
  return list;
}

std::vector<Setting> settings_from_json(const Json& node) {
  std::vector<Setting> settings;
  for (std::size_t i = 0; i < node.size(); ++i) {
    const std::vector<std::int64_t> values = node.at(i).as_ints();
    settings.emplace_back(values.begin(), values.end());
  }
  return settings;
}

Json matrix_to_json(const std::vector<std::vector<double>>& matrix) {
  Json rows = Json::array();
  for (const std::vector<double>& row : matrix)
    rows.append(list_to_json(row));
  return rows;
}

std::vector<double> doubles_from_json(const Json& node) {
  std::vector<double> values;
  for (std::size_t i = 0; i < node.size(); ++i)
    values.push_back(node.at(i).as_double());
  return values;
}

std::vector<std::vector<double>> matrix_from_json(const Json& node) {
  std::vector<std::vector<double>> rows;
  for (std::size_t i = 0; i < node.size(); ++i)
    rows.push_back(doubles_from_json(node.at(i)));
  return rows;
}

}  // namespace

SearchJournal::SearchJournal(std::filesystem::path file,
                             std::string run,
                             bool resume,
                             bool overwrite)
    : file_(std::move(file)), run_(std::move(run)) {
  if (std::filesystem::exists(file_)) {
    require(resume || overwrite, ErrorKind::kInvalidArgument, file_.string(),
            ": an earlier run left finished work; resume it, or overwrite to begin anew");
  }
  if (resume && std::filesystem::exists(file_)) read();
}

void SearchJournal::read() {
  const Json json = Json::load(file_);
  require(json.get_string("format") == kFormat, ErrorKind::kUnsupported, json.where(),
          ": expected format ", kFormat);
  require(json.get_string("run") == run_, ErrorKind::kInvalidArgument, file_.string(),
          ": is of a run with another model, recipe, data or version; use the same ones to resume "
          "it, or overwrite to begin anew");
  alphas_ = alphas_from_json(json.get("alphas"));
  vision_ = json.get("vision");
  const Json plan = json.get("plan");
  if (plan.is_null()) return;
  plan_ = plan_from_json(plan);
  entropy_ = doubles_from_json(json.get("entropy"));
  const Json precision = json.get("precision");
  for (std::size_t i = 0; i < precision.size(); ++i)
    precision_.push_back(matrix_from_json(precision.at(i)));
  const Json blocks = json.get("blocks");
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Json block = blocks.at(i);
    blocks_.push_back({block_from_json(block), settings_from_json(block.get("settings"))});
  }
}

void SearchJournal::write() const {
  Json blocks = Json::array();
  for (const FinishedBlock& block : blocks_) {
    Json node = block_to_json(block.report);
    node.set("settings", settings_to_json(block.settings));
    blocks.append(node);
  }
  Json precision = Json::array();
  for (const auto& error : precision_)
    precision.append(matrix_to_json(error));
  Json json = Json::object();
  json.set("format", kFormat);
  json.set("run", run_);
  json.set("alphas", alphas_to_json(alphas_));
  json.set("vision", vision_);
  json.set("plan", plan_ ? plan_to_json(*plan_) : Json());
  json.set("entropy", list_to_json(entropy_));
  json.set("precision", precision);
  json.set("blocks", blocks);
  write_text_file(file_, json.dump(1) + "\n");
}

const Alphas* SearchJournal::find_alphas(std::int64_t layer) const {
  return std::cmp_less(layer, alphas_.size()) ? &alphas_[static_cast<std::size_t>(layer)] : nullptr;
}

const FinishedBlock* SearchJournal::find_block(std::int64_t first) const {
  for (const FinishedBlock& block : blocks_) {
    if (block.report.first == first) return &block;
  }
  return nullptr;
}

void SearchJournal::add_alphas(const Alphas& alphas) {
  alphas_.push_back(alphas);
  write();
}

void SearchJournal::set_vision(const Json& vision) {
  vision_ = vision;
  write();
}

void SearchJournal::set_plan(const BlockPlan& plan, const std::vector<double>& entropy) {
  plan_ = plan;
  entropy_ = entropy;
  write();
}

void SearchJournal::add_precision(const std::vector<std::vector<double>>& changes) {
  precision_.push_back(changes);
  write();
}

void SearchJournal::add_block(const FinishedBlock& block) {
  blocks_.push_back(block);
  write();
}

void SearchJournal::remove() {
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
  std::filesystem::remove(file_.string() + ".part", ignored);  // of a run that was killed
  sync_folder(file_.parent_path());
}

}  // namespace qvlm
