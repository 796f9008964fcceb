// A folder under construction: it grows as "<folder>.part" beside its place and gets its name in
// commit(). Without a commit nothing is left of it.
#pragma once

#include <filesystem>

namespace qvlm {

// Throws kInvalidArgument if writing `folder` would remove `source`, or add to it.
void check_apart(const std::filesystem::path& folder, const std::filesystem::path& source);

// Throws kInvalidArgument if `folder` is a file, or holds something and `overwrite` is false or it
// is no model (neither config.json nor qvlm.json): a slip in a path must not cost somebody a folder
// of other things.
void check_replaceable(const std::filesystem::path& folder, bool overwrite);

class StagedFolder {
 public:
  // Throws like check_replaceable(), or kIo.
  StagedFolder(const std::filesystem::path& folder, bool overwrite);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Where to put the files.
  const std::filesystem::path& path() const { return part_; }
  // Flushes and renames; what was there before is gone then. Throws as the constructor does.
  void commit();

 private:
  std::filesystem::path folder_;
  std::filesystem::path part_;
  bool overwrite_;
  bool committed_ = false;
};

}  // namespace qvlm
