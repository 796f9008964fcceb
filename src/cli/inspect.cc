// qvlm inspect: everything that can be said about a model folder from its headers, without reading
// a weight.
#include <iostream>
#include <optional>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/components.h"
#include "cli/format.h"
#include "cli/search_text.h"
#include "cli/table.h"
#include "io/hf_config.h"
#include "io/kv_format.h"
#include "io/quantized_checkpoint.h"
#include "io/scheme.h"
#include "model/linear.h"
#include "pipeline/search_json.h"

namespace qvlm::cli {
namespace {

struct GroupSummary {
  std::string component, scheme;
  std::string_view arithmetic;
  std::int64_t linears = 0, parameters = 0;
};

struct Inspection {
  Checkpoint checkpoint;
  ModelConfig config;
  std::vector<ComponentSize> components;
  std::vector<GroupSummary> groups;
  std::optional<SearchReport> search;  // of a checkpoint whose clips were searched
};

std::optional<SearchReport> find_search(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / kOwnFile)) return std::nullopt;
  const Json search = Json::load(folder / kOwnFile).find("search");
  return search.is_null() ? std::nullopt : std::optional(search_from_json(search));
}

std::vector<GroupSummary> summarize_linears(const Checkpoint& checkpoint,
                                            const std::vector<LinearShape>& linears) {
  const std::optional<QuantizationConfig> quantization = QuantizationConfig::load(checkpoint);
  const auto scheme_of = [&](const LinearShape& linear) {
    return quantization ? quantization->find(linear.name) : std::nullopt;
  };
  LinearGroups groups;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const std::optional<LinearScheme> scheme = scheme_of(linears[i]);
    groups.add(i, linears[i].name, scheme ? describe(*scheme) : "float");
  }
  std::vector<GroupSummary> summaries;
  for (const LinearGroup& group : groups.list()) {
    const auto scheme = scheme_of(linears[group.members.front()]);
    GroupSummary summary{group.component, group.scheme,
                         arithmetic_name(arithmetic_of(scheme, Execution::kPacked)),
                         static_cast<std::int64_t>(group.members.size()), 0};
    for (const std::size_t member : group.members)
      summary.parameters += linears[member].out * linears[member].in;
    summaries.push_back(std::move(summary));
  }
  return summaries;
}

Inspection inspect(const std::string& model) {
  Inspection result{Checkpoint::open(model), {}, {}, {}, find_search(model)};
  result.config = load_model_config(result.checkpoint);
  const std::vector<LinearShape> linears = list_linears(result.config);
  result.components = measure_components(result.checkpoint, linears);
  result.groups = summarize_linears(result.checkpoint, linears);
  return result;
}

void print_dimensions(const ModelConfig& config) {
  const VisionConfig& vision = config.vision;
  const TextConfig& text = config.text;
  std::cout << "vision tower  " << vision.layers << " layers, hidden " << vision.hidden_size
            << ", intermediate " << vision.intermediate_size << ", " << vision.heads
            << " heads; image " << vision.image_size << ", patch " << vision.patch_size << ", "
            << config.image_tokens() << " positions an image\n"
            << "decoder       " << text.layers << " layers, hidden " << text.hidden_size
            << ", intermediate " << text.intermediate_size << ", " << text.heads << " heads ("
            << text.kv_heads << " key-value) of width " << text.head_dim << "; vocabulary "
            << text.vocab_size << ", " << text.max_positions << " positions, "
            << (config.tied_head ? "tied" : "own") << " head\n\n";
}

void print_components(const Inspection& inspection) {
  Table table({{"component", Table::Align::kLeft}, {"parameters"}, {"bytes"}});
  ComponentSize total;
  for (const ComponentSize& component : inspection.components) {
    table.add_row(
        {component.name, format_count(component.parameters), format_bytes(component.bytes)});
    total.parameters += component.parameters;
    total.bytes += component.bytes;
  }
  table.add_rule();
  table.add_row({"total", format_count(total.parameters), format_bytes(total.bytes)});
  std::cout << table.text() << "tensors: " << describe_dtypes(inspection.checkpoint)
            << "; 1 MB = 1 000 000 bytes\n\n";
}

void print_groups(const std::vector<GroupSummary>& groups) {
  Table table({{"linears of", Table::Align::kLeft},
               {"scheme", Table::Align::kLeft},
               {"count"},
               {"parameters"},
               {"matrix product", Table::Align::kLeft}});
  for (const GroupSummary& group : groups) {
    table.add_row({group.component, group.scheme, std::to_string(group.linears),
                   format_count(group.parameters), std::string(group.arithmetic)});
  }
  std::cout << table.text();
}

void print_tensors(const Checkpoint& checkpoint) {
  Table table({{"tensor in the files", Table::Align::kLeft},
               {"our name", Table::Align::kLeft},
               {"dtype", Table::Align::kLeft},
               {"shape", Table::Align::kLeft},
               {"bytes"}});
  for (const TensorView& tensor : checkpoint.tensors()) {
    std::string shape;
    for (const std::int64_t size : tensor.shape)
      shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    table.add_row({tensor.name, checkpoint.names().to_ours(tensor.name),
                   std::string(dtype_name(tensor.dtype)), "[" + shape + "]",
                   format_bytes(static_cast<std::int64_t>(tensor.bytes.size()))});
  }
  std::cout << "\n" << table.text();
}

Json vision_json(const ModelConfig& config) {
  Json json = Json::object();
  json.set("layers", config.vision.layers);
  json.set("hidden_size", config.vision.hidden_size);
  json.set("intermediate_size", config.vision.intermediate_size);
  json.set("heads", config.vision.heads);
  json.set("image_size", config.vision.image_size);
  json.set("patch_size", config.vision.patch_size);
  json.set("image_tokens", config.image_tokens());
  return json;
}

Json decoder_json(const ModelConfig& config) {
  Json json = Json::object();
  json.set("layers", config.text.layers);
  json.set("hidden_size", config.text.hidden_size);
  json.set("intermediate_size", config.text.intermediate_size);
  json.set("heads", config.text.heads);
  json.set("kv_heads", config.text.kv_heads);
  json.set("head_dim", config.text.head_dim);
  json.set("vocab_size", config.text.vocab_size);
  json.set("max_positions", config.text.max_positions);
  json.set("tied_head", config.tied_head);
  return json;
}

Json tensors_json(const Checkpoint& checkpoint) {
  Json list = Json::array();
  for (const TensorView& tensor : checkpoint.tensors()) {
    Json json = Json::object(), shape = Json::array();
    for (const std::int64_t size : tensor.shape)
      shape.append(size);
    json.set("file_name", tensor.name);
    json.set("name", checkpoint.names().to_ours(tensor.name));
    json.set("dtype", dtype_name(tensor.dtype));
    json.set("shape", shape);
    json.set("bytes", static_cast<std::int64_t>(tensor.bytes.size()));
    list.append(json);
  }
  return list;
}

Json to_json(const Inspection& inspection, const InspectCommand& command) {
  Json json = Json::object(), components = Json::array(), groups = Json::array();
  for (const ComponentSize& component : inspection.components) {
    Json entry = Json::object();
    entry.set("name", component.name);
    entry.set("parameters", component.parameters);
    entry.set("bytes", component.bytes);
    components.append(entry);
  }
  for (const GroupSummary& group : inspection.groups) {
    Json entry = Json::object();
    entry.set("component", group.component);
    entry.set("scheme", group.scheme);
    entry.set("linears", group.linears);
    entry.set("parameters", group.parameters);
    entry.set("matrix_product", group.arithmetic);
    groups.append(entry);
  }
  json.set("model", command.model);
  json.set("file_bytes", inspection.checkpoint.file_bytes());
  json.set("vision_tower", vision_json(inspection.config));
  json.set("decoder", decoder_json(inspection.config));
  json.set("components", components);
  json.set("linears", groups);
  json.set("kv_cache", kv_format_name(choose_kv_format(inspection.checkpoint, {})));
  if (inspection.search) json.set("search", search_to_json(*inspection.search));
  if (command.tensors) json.set("tensors", tensors_json(inspection.checkpoint));
  return json;
}

}  // namespace

void run(const InspectCommand& command, const CommonOptions& common) {
  const Inspection inspection = inspect(command.model);
  if (common.json) {
    std::cout << to_json(inspection, command).dump(2) << "\n";
    return;
  }
  std::cout << command.model << ": " << format_bytes(inspection.checkpoint.file_bytes())
            << " of weight files\n\n";
  print_dimensions(inspection.config);
  print_components(inspection);
  print_groups(inspection.groups);
  const KvFormat kv_cache = choose_kv_format(inspection.checkpoint, {});
  if (kv_cache != KvFormat::kFloat32)
    std::cout << "\nkeys and values: " << kv_format_name(kv_cache) << "\n";
  if (inspection.search) std::cout << "\n" << search_text(*inspection.search);
  if (command.tensors) print_tensors(inspection.checkpoint);
}

}  // namespace qvlm::cli
