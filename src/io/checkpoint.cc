#include "io/checkpoint.h"

#include <set>

#include "base/error.h"

namespace qvlm {
namespace {

// Tensor name -> shard, as the index promises it.
std::map<std::string, std::string> load_index(const std::filesystem::path& file) {
  std::map<std::string, std::string> shards;
  const Json weight_map = Json::load(file).get("weight_map");
  require(weight_map.is_object(), ErrorKind::kCorrupt, weight_map.where(), ": expected an object");
  weight_map.for_each([&](const std::string& tensor, const Json& value) {
    const std::string shard = value.as_string();
    // A shard lies beside its index; a path would let a checkpoint read any file.
    require(std::filesystem::path(shard).filename() == shard && shard != "..", ErrorKind::kCorrupt,
            value.where(), ": expected a plain file name, got '", shard, "'");
    shards[tensor] = shard;
  });
  require(!shards.empty(), ErrorKind::kCorrupt, weight_map.where(), ": lists no tensors");
  return shards;
}

// A path that cannot be asked about (no permission) counts as missing; opening it says why.
bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// Every tensor of the index must be in the shard that it names.
void check_index(const std::filesystem::path& index,
                 const std::map<std::string, std::string>& promised,
                 const std::map<std::string, std::string>& found) {
  for (const auto& [tensor, shard] : promised) {
    const auto place = found.find(tensor);
    require(place != found.end(), ErrorKind::kNotFound, index.string(), ": promises tensor '",
            tensor, "' in ", shard, ", but no shard has it");
    require(place->second == shard, ErrorKind::kCorrupt, index.string(), ": promises tensor '",
            tensor, "' in ", shard, ", but it is in ", place->second);
  }
}

}  // namespace

Checkpoint Checkpoint::open(const std::filesystem::path& folder) {
  std::error_code ignored;
  require(std::filesystem::is_directory(folder, ignored), ErrorKind::kNotFound, folder.string(),
          ": no such folder; expected a model folder with config.json and ", kSingleFile);
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.config_ = Json::load(folder / "config.json");
  require(checkpoint.config_.is_object(), ErrorKind::kCorrupt, checkpoint.config_.where(),
          ": expected a JSON object");

  const std::filesystem::path index = folder / kIndexFile;
  std::map<std::string, std::string> promised;
  std::set<std::string> shards;
  if (is_there(folder / kSingleFile)) {
    shards.insert(kSingleFile);
  } else {
    require(is_there(index), ErrorKind::kNotFound, folder.string(), ": no weights: expected ",
            kSingleFile, " or ", kIndexFile);
    promised = load_index(index);
    for (const auto& [tensor, shard] : promised)
      shards.insert(shard);
  }

  std::map<std::string, std::string> found;
  for (const std::string& shard : shards) {
    require(is_there(folder / shard), ErrorKind::kNotFound, index.string(), ": the shard ", shard,
            " is missing");
    auto file = std::make_shared<const SafetensorsFile>(folder / shard);
    for (const auto& [name, view] : file->tensors()) {
      const auto [place, added] = found.emplace(name, shard);
      require(added, ErrorKind::kCorrupt, folder.string(), ": tensor '", name, "' is in both ",
              place->second, " and ", shard);
      checkpoint.tensors_.emplace(name, view);
    }
    checkpoint.files_.push_back(std::move(file));
  }
  check_index(index, promised, found);

  std::vector<std::string> names;
  for (const auto& [name, view] : checkpoint.tensors_)
    names.push_back(name);
  checkpoint.names_ = NameMap::detect(names);
  return checkpoint;
}

std::vector<TensorView> Checkpoint::tensors() const {
  std::vector<TensorView> views;
  for (const auto& [name, view] : tensors_)
    views.push_back(view);
  return views;
}

std::optional<TensorView> Checkpoint::find_tensor(std::string_view name) const {
  const auto found = tensors_.find(names_.to_file(name));
  if (found == tensors_.end()) return std::nullopt;
  return found->second;
}

TensorView Checkpoint::get_tensor(std::string_view name) const {
  const std::optional<TensorView> view = find_tensor(name);
  require(view.has_value(), ErrorKind::kNotFound, folder_.string(), ": the tensor '", name,
          "' is missing; looked for '", names_.to_file(name), "' in the weight files");
  return *view;
}

std::filesystem::path Checkpoint::file_of(const std::string& file_name) const {
  for (const auto& file : files_) {
    if (file->tensors().contains(file_name)) return file->path();
  }
  return {};
}

std::int64_t Checkpoint::file_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& file : files_) {
    bytes += static_cast<std::int64_t>(std::filesystem::file_size(file->path()));
  }
  return bytes;
}

std::string Checkpoint::describe_files() const {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".safetensors" && extension != ".json") continue;
    const auto time = entry.last_write_time().time_since_epoch().count();
    files[entry.path().filename().string()] = join(entry.file_size(), ":", time);
  }
  std::string text;
  for (const auto& [name, identity] : files)
    text += name + ":" + identity + "\n";
  return text;
}

}  // namespace qvlm
