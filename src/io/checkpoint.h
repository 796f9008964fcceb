// A model folder in Hugging Face form: config.json beside one safetensors file or shards with an
// index. Tensors are asked for by qvlm's own names (io/name_map.h); the three layouts found in the
// wild map to them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/name_map.h"
#include "io/safetensors.h"

namespace qvlm {

// What the weights are looked for in: one file or, where it is not there, the index of shards.
inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

class Checkpoint {
 public:
  // Opens config.json and maps the weight files. Throws kNotFound (no config.json, no weights, a
  // missing shard, a tensor the index promises but no shard has) or kCorrupt (see SafetensorsFile;
  // a tensor in two shards).
  static Checkpoint open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const Json& config() const { return config_; }
  const NameMap& names() const { return names_; }

  // All tensors by their names in the files, in name order; views live as long as the checkpoint or
  // a copy of it.
  std::vector<TensorView> tensors() const;
  // By our name. get_tensor throws kNotFound naming the folder, our name and the file names tried.
  std::optional<TensorView> find_tensor(std::string_view name) const;
  TensorView get_tensor(std::string_view name) const;
  // The weight file that holds a tensor, by its name in the files; empty: none does.
  std::filesystem::path file_of(const std::string& file_name) const;
  // Bytes of all weight files.
  std::int64_t file_bytes() const;
  // Names, sizes and times of the .safetensors and .json files, a line each: changes when the model
  // does.
  std::string describe_files() const;

 private:
  std::filesystem::path folder_;
  Json config_;
  NameMap names_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::map<std::string, TensorView, std::less<>> tensors_;
};

}  // namespace qvlm
