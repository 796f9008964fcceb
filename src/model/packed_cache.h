// The packed-layout cache: the kernels' form of a checkpoint's linears in one file, so that loading
// does not pack again and processes that run the same model share its pages. It is made from the
// checkpoint and can be deleted at any time. Format: docs/formats.md, "Packed-layout cache".
#pragma once

#include <qvlm/kernels.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "io/checkpoint.h"

namespace qvlm {

// Not safe for use by two threads at once; it is used while a model loads.
class PackedCache {
 public:
  // Opens `file` if it is there and was made from this checkpoint as it lies on disk now; what is
  // stale, damaged or of another version counts as empty.
  PackedCache(std::filesystem::path file, const Checkpoint& checkpoint);

  // The packed weights of a linear (our name), in the memory of the mapped file; nothing if they
  // are not in the cache or their checksum is wrong.
  std::optional<kernels::PackedWeights> find(std::string_view linear) const;
  // Remembers weights that find() did not have.
  void add(std::string_view linear, const kernels::PackedWeights& weights);
  // Writes the file anew if anything was added, atomically. A disk that refuses is a warning: the
  // model has loaded all the same.
  void save() const;

 private:
  std::filesystem::path file_;
  std::string source_;  // what the checkpoint was when the cache was made
  std::shared_ptr<const SafetensorsFile> mapped_;
  std::map<std::string, kernels::PackedWeights, std::less<>> added_;
};

}  // namespace qvlm
