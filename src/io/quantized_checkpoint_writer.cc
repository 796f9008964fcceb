#include "io/quantized_checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/checksums.h"
#include "io/finite.h"
#include "io/scheme.h"
#include "io/scheme_json.h"
#include "io/sha256.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kSmallFileBytes = 64 * 1024 * 1024;
constexpr std::string_view kWeight = ".weight";

// Position of a tensor in the run of the model.
std::size_t part_rank(std::string_view ours) {
  constexpr std::array<std::string_view, 4> kParts = {"vision_tower.", "projector.", "decoder.",
                                                      "lm_head."};
  for (std::size_t rank = 0; rank < kParts.size(); ++rank) {
    if (ours.starts_with(kParts[rank])) return rank;
  }
  return kParts.size();
}

// The name with numbers padded, so that layer 10 sorts after layer 2.
std::string natural_key(std::string_view name) {
  constexpr std::size_t kDigits = 9;
  std::string key;
  for (std::size_t i = 0; i < name.size();) {
    std::size_t end = i;
    while (end < name.size() && std::isdigit(static_cast<unsigned char>(name[end])) != 0)
      ++end;
    if (end > i) {
      key.append(kDigits - std::min(kDigits, end - i), '0').append(name.substr(i, end - i));
      i = end;
    } else {
      key += name[i++];
    }
  }
  return key;
}

std::vector<TensorView> in_model_order(const Checkpoint& source) {
  std::map<std::pair<std::size_t, std::string>, TensorView> ordered;
  for (const TensorView& tensor : source.tensors()) {
    const std::string ours = source.names().to_ours(tensor.name);
    ordered.emplace(std::pair(part_rank(ours), natural_key(ours) + "\n" + tensor.name), tensor);
  }
  std::vector<TensorView> tensors;
  for (const auto& [key, tensor] : ordered)
    tensors.push_back(tensor);
  return tensors;
}

// The constructor's arguments, checked before a folder is made.
LinearSchemes checked(const Checkpoint& source, const fs::path& out, LinearSchemes linears) {
  require(source.config().find("quantization_config").is_null(), ErrorKind::kUnsupported,
          source.folder().string(), " is quantized already; quantize the float model instead");
  check_apart(out, source.folder());
  require(!linears.empty(), ErrorKind::kInvalidArgument, "no linear to quantize");
  const std::vector<std::string> known = find_linears(source);
  for (const auto& [linear, scheme] : linears) {
    require(std::ranges::binary_search(known, linear), ErrorKind::kInvalidArgument,
            source.folder().string(), ": there is no linear '", linear, "' to quantize");
    const std::string where = join("linear '", linear, "'");
    check_weight_scheme(scheme.weight, where + ": weight");
    if (scheme.activation) check_activation_scheme(*scheme.activation, where + ": activation");
    require(has_static_input(scheme) != scheme.input_scale.empty(), ErrorKind::kInvalidArgument,
            where, ": static activations need measured scales; give the recipe a 'search'");
    const std::int64_t in = source.get_tensor(linear + std::string(kWeight)).shape[1];
    require(has_whole_groups(scheme.weight, in), ErrorKind::kInvalidArgument, where, ": its ", in,
            " inputs are no multiple of the group size ", scheme.weight.group_size);
  }
  return linears;
}

// Small files that make the folder complete for other programs. Weights in other forms, the model
// card (its text is about another model) and hidden files stay behind.
bool is_copied(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  const std::set<std::string> kept_out = {"config.json", kOwnFile};
  const std::set<std::string> weights = {".safetensors", ".bin",     ".pt", ".pth",
                                         ".gguf",        ".msgpack", ".h5", ".part"};
  const bool index = name.ends_with(".index.json");
  const bool prose = name.starts_with("README") || name.ends_with(".md");
  return entry.is_regular_file() && !kept_out.contains(name) &&
         !weights.contains(entry.path().extension().string()) && !index && !prose &&
         !name.starts_with(".") && entry.file_size() <= kSmallFileBytes;
}

}  // namespace

QuantizedCheckpointWriter::QuantizedCheckpointWriter(const Checkpoint& source,
                                                     const fs::path& out,
                                                     LinearSchemes linears,
                                                     const Json& extra,
                                                     Options options)
    : source_(source),
      linears_(checked(source, out, std::move(linears))),
      extra_(extra),
      replaced_(std::move(options.replaced)),
      replacement_(std::move(options.replacement)),
      folder_(out, options.overwrite) {
  plan_tensors(options.shard_bytes);
  advance();
}

void QuantizedCheckpointWriter::plan_tensors(std::int64_t shard_bytes) {
  std::int64_t filled = 0;
  std::size_t shard = 0;
  const auto add = [&](const TensorInfo& info, const std::optional<TensorView>& source) {
    std::int64_t bytes = static_cast<std::int64_t>(dtype_size(info.dtype));
    for (const std::int64_t size : info.shape)
      bytes *= size;
    if (filled > 0 && filled + bytes > shard_bytes) {
      ++shard;
      filled = 0;
    }
    filled += bytes;
    plan_.push_back({info, shard, source});
  };
  for (const TensorView& tensor : in_model_order(source_)) {
    const std::string ours = source_.names().to_ours(tensor.name);
    const std::string linear =
        ours.ends_with(kWeight) ? ours.substr(0, ours.size() - kWeight.size()) : "";
    const auto scheme = linears_.find(linear);
    if (scheme == linears_.end()) {
      add({tensor.name, tensor.dtype, tensor.shape}, tensor);
      continue;
    }
    const std::string module = source_.names().module_to_file(linear);
    const StoredLinear stored =
        describe_stored(module, scheme->second, tensor.shape[0], tensor.shape[1], tensor.dtype);
    for (const TensorInfo& info : stored.tensors)
      add(info, std::nullopt);
  }
}

// Writes a tensor of the source, or what has taken its place.
void QuantizedCheckpointWriter::copy_next(const TensorView& source) {
  const std::string ours = source_.names().to_ours(source.name);
  std::vector<std::byte> other;
  std::span<const std::byte> bytes = source.bytes;
  if (replaced_.contains(ours)) {
    other = replacement_(source, ours);
    require(other.size() == bytes.size(), ErrorKind::kInternal, source.describe(), ": replaced by ",
            other.size(), " bytes");
    bytes = other;
  }
  require(is_finite(source.dtype, bytes), ErrorKind::kCorrupt, source_.folder().string(),
          ": the tensor '", source.name,
          "' holds NaN or infinity; a quantized copy of it would be useless");
  write_next(bytes);
  drop_pages(source.bytes);
}

void QuantizedCheckpointWriter::write(std::string_view linear, const QuantizedWeight& weight) {
  const auto scheme = linears_.find(linear);
  require(scheme != linears_.end() && !received_.contains(linear), ErrorKind::kInternal, "linear '",
          linear, "' was not announced or came twice");
  const TensorView source = source_.get_tensor(std::string(linear) + std::string(kWeight));
  require(source.shape == std::vector<std::int64_t>{weight.out, weight.in}, ErrorKind::kInternal,
          "linear '", linear, "': ", weight.out, " x ", weight.in, " codes for ",
          source.describe());
  auto encoded =
      encode_stored(source_.names().module_to_file(linear), scheme->second, weight, source.dtype);
  waiting_.merge(encoded);
  received_.emplace(linear);
  advance();
}

// Writes the tensors whose turn it is: those of the source, and codes that have come.
void QuantizedCheckpointWriter::advance() {
  while (next_ < plan_.size()) {
    const Entry& entry = plan_[next_];
    if (entry.source) {
      copy_next(*entry.source);
      continue;
    }
    const auto codes = waiting_.find(entry.info.name);
    if (codes == waiting_.end()) return;
    write_next(codes->second);
    waiting_.erase(codes);
  }
}

void QuantizedCheckpointWriter::write_next(std::span<const std::byte> bytes) {
  const Entry& entry = plan_[next_];
  if (next_ == 0 || plan_[next_ - 1].shard != entry.shard) open_shard(entry.shard);
  shard_->write(entry.info.name, bytes);
  hashes_[entry.info.name] = sha256(bytes);
  ++next_;
}

void QuantizedCheckpointWriter::open_shard(std::size_t shard) {
  if (shard_) shard_->commit();
  std::vector<TensorInfo> tensors;
  for (const Entry& entry : plan_) {
    if (entry.shard == shard) tensors.push_back(entry.info);
  }
  shard_.reset();
  shard_ = std::make_unique<SafetensorsWriter>(
      folder_.path() / shard_name(shard), std::move(tensors),
      std::map<std::string, std::string>{{"format", "pt"}, {kOwnMark, kOwnFormat}});
}

std::string QuantizedCheckpointWriter::shard_name(std::size_t shard) const {
  const std::size_t count = plan_.back().shard + 1;
  if (count == 1) return "model.safetensors";
  std::array<char, 64> name = {};
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", shard + 1, count);
  return name.data();
}

void QuantizedCheckpointWriter::write_index() const {
  if (plan_.back().shard == 0) return;
  std::map<std::string, std::string> places;
  std::int64_t total = 0;
  for (const Entry& entry : plan_) {
    places[entry.info.name] = shard_name(entry.shard);
    total += TensorView{"", entry.info.dtype, entry.info.shape, {}}.elements() *
             static_cast<std::int64_t>(dtype_size(entry.info.dtype));
  }
  Json weight_map = Json::object();
  for (const auto& [tensor, shard] : places)
    weight_map.set(tensor, shard);
  Json metadata = Json::object();
  metadata.set("total_size", total);
  Json index = Json::object();
  index.set("metadata", metadata);
  index.set("weight_map", weight_map);
  write_text_file(folder_.path() / "model.safetensors.index.json", index.dump(2) + "\n");
}

void QuantizedCheckpointWriter::write_small_files() const {
  for (const auto& entry : fs::directory_iterator(source_.folder())) {
    if (is_copied(entry))
      write_text_file(folder_.path() / entry.path().filename(), read_text_file(entry.path()));
  }
  Json config = source_.config();
  config.set("quantization_config", make_quantization_config(source_, linears_));
  write_text_file(folder_.path() / "config.json", config.dump(2) + "\n");
}

Json QuantizedCheckpointWriter::make_own_document() const {
  Json document = Json::object();
  document.set("format", kOwnFormat);
  extra_.for_each([&](const std::string& key, const Json& value) {
    const std::set<std::string> reserved = {"format",  kReplaced, "linears",
                                            "tensors", "files",   "sha256"};
    require(!reserved.contains(key), ErrorKind::kInternal, kOwnFile, ": the key '", key,
            "' is reserved");
    document.set(key, value);
  });
  if (!replaced_.empty()) {
    Json names = Json::array();
    for (const std::string& name : replaced_)
      names.append(name);
    document.set(kReplaced, names);
  }
  Json schemes = Json::object();
  for (const auto& [linear, scheme] : linears_)
    schemes.set(linear, linear_scheme_to_json(scheme));
  document.set("linears", schemes);
  return document;
}

void QuantizedCheckpointWriter::commit() {
  require(next_ == plan_.size(), ErrorKind::kInternal, "checkpoint writer: the tensor '",
          next_ < plan_.size() ? plan_[next_].info.name : "", "' was never written");
  shard_->commit();
  write_index();
  write_small_files();
  write_text_file(folder_.path() / kOwnFile,
                  seal_document(make_own_document(), folder_.path(), hashes_));
  folder_.commit();
}

}  // namespace qvlm
