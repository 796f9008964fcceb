// load_processor_config and load_generation_config of hf_config.h: the small files beside
// config.json.
#include <algorithm>

#include "base/error.h"
#include "io/hf_config.h"

namespace qvlm {
namespace {

constexpr const char* kProcessorFile = "processor_config.json";
constexpr const char* kPreprocessorFile = "preprocessor_config.json";
constexpr const char* kGenerationFile = "generation_config.json";

// The nested form (v5) wins over the file of its own (v4), as it does in transformers.
Json find_image_processor(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / kProcessorFile)) {
    const Json nested = Json::load(folder / kProcessorFile).find("image_processor");
    if (!nested.is_null()) return nested;
  }
  require(std::filesystem::exists(folder / kPreprocessorFile), ErrorKind::kNotFound,
          folder.string(), ": no image processor: expected ", kPreprocessorFile, ", or ",
          kProcessorFile, " with 'image_processor'");
  return Json::load(folder / kPreprocessorFile);
}

// CLIP's and LLaVA's processors differ in one thing: only LLaVA's can pad to a square.
bool is_llava_processor(const Json& node) {
  std::string type = node.get_string("image_processor_type", "CLIPImageProcessor");
  for (const std::string_view suffix : {"Fast", "Pil"}) {
    if (type.ends_with(suffix)) type.resize(type.size() - suffix.size());
  }
  const bool llava = type == "LlavaImageProcessor";
  require(llava || type == "CLIPImageProcessor" || type == "CLIPFeatureExtractor",
          ErrorKind::kUnsupported, node.where(), ".image_processor_type: '", type,
          "' is not supported; supported: CLIPImageProcessor, LlavaImageProcessor");
  return llava;
}

std::int64_t as_edge(const Json& value) {
  const std::int64_t edge = value.as_int();
  require(edge >= 1 && edge <= 1 << 16, ErrorKind::kCorrupt, value.where(),
          ": expected a size in pixels, got ", edge);
  return edge;
}

// size: a number (the shortest edge), {"shortest_edge"} or {"height", "width"}.
void parse_size(const Json& node, ProcessorConfig& processor) {
  const Json size = node.find("size");
  if (size.is_null()) return;
  if (size.is_number()) {
    processor.shortest_edge = as_edge(size);
    return;
  }
  require(size.find("longest_edge").is_null(), ErrorKind::kUnsupported, size.where(),
          ".longest_edge is not supported; supported: shortest_edge, or height and width");
  if (!size.find("shortest_edge").is_null()) {
    processor.shortest_edge = as_edge(size.get("shortest_edge"));
    return;
  }
  processor.shortest_edge = 0;
  processor.resize_height = as_edge(size.get("height"));
  processor.resize_width = as_edge(size.get("width"));
}

// crop_size: a number or {"height", "width"}.
void parse_crop_size(const Json& node, ProcessorConfig& processor) {
  const Json size = node.find("crop_size");
  if (size.is_null()) return;
  processor.crop_height = as_edge(size.is_number() ? size : size.get("height"));
  processor.crop_width = as_edge(size.is_number() ? size : size.get("width"));
}

std::vector<double> parse_channels(const Json& node,
                                   std::string_view key,
                                   std::vector<double> values) {
  const Json given = node.find(key);
  if (given.is_null()) return values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = given.is_number() ? given.as_double() : given.at(i).as_double();
  }
  require(given.is_number() || given.size() == values.size(), ErrorKind::kCorrupt, given.where(),
          ": expected 3 numbers, got ", given.size());
  return values;
}

Resample parse_resample(const Json& node) {
  const std::int64_t number =
      node.get_int("resample", static_cast<std::int64_t>(Resample::kBicubic));
  require(number >= 0 && number <= 3, ErrorKind::kUnsupported, node.where(), ".resample: ", number,
          " is not supported; supported: 0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic)");
  return static_cast<Resample>(number);
}

// A token id or a list of them; nothing for null.
std::vector<std::int64_t> parse_ids(const Json& node) {
  if (node.is_null()) return {};
  return node.is_array() ? node.as_ints() : std::vector<std::int64_t>{node.as_int()};
}

std::optional<std::int64_t> first_of(const std::vector<std::int64_t>& ids) {
  if (ids.empty()) return std::nullopt;
  return ids.front();
}

}  // namespace

ProcessorConfig load_processor_config(const Checkpoint& checkpoint) {
  const Json node = find_image_processor(checkpoint.folder());
  ProcessorConfig processor;
  const bool llava = is_llava_processor(node);
  processor.pad_to_square = node.get_bool("do_pad", false);
  require(llava || !processor.pad_to_square, ErrorKind::kUnsupported, node.where(),
          ".do_pad is supported with LlavaImageProcessor only");
  processor.resize = node.get_bool("do_resize", true);
  parse_size(node, processor);
  processor.resample = parse_resample(node);
  processor.center_crop = node.get_bool("do_center_crop", true);
  parse_crop_size(node, processor);
  processor.rescale_factor = node.get_double("rescale_factor", processor.rescale_factor);
  if (!node.get_bool("do_rescale", true)) processor.rescale_factor = 0;
  processor.normalize = node.get_bool("do_normalize", true);
  processor.mean = parse_channels(node, "image_mean", processor.mean);
  processor.std = parse_channels(node, "image_std", processor.std);
  require(std::ranges::all_of(processor.std, [](double value) { return value > 0; }),
          ErrorKind::kCorrupt, node.where(), ".image_std: expected positive numbers");
  return processor;
}

GenerationConfig load_generation_config(const Checkpoint& checkpoint) {
  // In the order transformers asks: the file of its own, config.json, its text part, LlamaConfig's
  // defaults.
  std::vector<Json> sources;
  const std::filesystem::path file = checkpoint.folder() / kGenerationFile;
  if (std::filesystem::exists(file)) sources.push_back(Json::load(file));
  sources.push_back(checkpoint.config());
  sources.push_back(checkpoint.config().find("text_config"));
  sources.push_back(Json::parse(R"({"bos_token_id": 1, "eos_token_id": 2})", "LlamaConfig"));
  const auto find_ids = [&](std::string_view key) {
    for (const Json& source : sources) {
      const std::vector<std::int64_t> ids = parse_ids(source.find(key));
      if (!ids.empty()) return ids;
    }
    return std::vector<std::int64_t>();
  };
  GenerationConfig generation;
  generation.eos_token_ids = find_ids("eos_token_id");
  generation.bos_token_id = first_of(find_ids("bos_token_id"));
  generation.pad_token_id = first_of(find_ids("pad_token_id"));
  return generation;
}

}  // namespace qvlm
