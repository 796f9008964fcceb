#include "io/staged_folder.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with_code(const char* what, const fs::path& path, std::error_code code) {
  fail(ErrorKind::kIo, what, " ", path.string(), ": ", code.message());
}

// "models/out/", "models/out" and a link to it are the same folder, and ".part" belongs beside it.
fs::path resolve(const fs::path& path) {
  std::error_code code;
  fs::path plain = fs::weakly_canonical(fs::absolute(path, code), code);
  if (code) fail_with_code("cannot read", path, code);
  return plain.has_filename() ? plain : plain.parent_path();
}

fs::path part_of(const fs::path& folder) {
  return folder.string() + ".part";
}

// Where the old folder is until the new one has its name.
fs::path aside_of(const fs::path& folder) {
  return folder.string() + ".replaced.part";
}

// Both resolved; a folder holds itself.
bool holds(const fs::path& folder, const fs::path& inner) {
  return std::mismatch(folder.begin(), folder.end(), inner.begin(), inner.end()).first ==
         folder.end();
}

bool holds_something(const fs::path& folder) {
  std::error_code code;
  const bool something = fs::exists(folder, code) && !fs::is_empty(folder, code);
  if (code && code != std::errc::no_such_file_or_directory)
    fail_with_code("cannot read", folder, code);
  return something;
}

}  // namespace

void check_replaceable(const fs::path& folder, bool overwrite) {
  std::error_code code;
  require(!fs::exists(folder, code) || fs::is_directory(folder, code), ErrorKind::kInvalidArgument,
          folder.string(), " is not a folder");
  const fs::path parent = (fs::absolute(folder) / "").parent_path().parent_path();
  require(fs::is_directory(parent, code), ErrorKind::kIo, "cannot create ", folder.string(), ": ",
          parent.string(), " is no folder");
  if (!holds_something(folder)) return;
  require(overwrite, ErrorKind::kInvalidArgument, folder.string(),
          " is not empty; choose another folder or ask to overwrite it");
  std::error_code ignored;
  require(fs::exists(folder / "config.json", ignored) || fs::exists(folder / "qvlm.json", ignored),
          ErrorKind::kInvalidArgument, folder.string(),
          " is no model (it has neither config.json nor qvlm.json), so it is not overwritten; "
          "choose another folder or empty this one");
}

void check_apart(const fs::path& folder, const fs::path& source) {
  const fs::path out = resolve(folder);
  const fs::path kept = resolve(source);
  for (const fs::path& removed : {out, part_of(out), aside_of(out)}) {
    require(!holds(removed, kept), ErrorKind::kInvalidArgument, folder.string(),
            ": writing there would remove the source ", source.string(), "; choose another folder");
  }
  require(!holds(kept, out), ErrorKind::kInvalidArgument, folder.string(),
          ": lies inside the source ", source.string(), "; choose another folder");
}

StagedFolder::StagedFolder(const fs::path& folder, bool overwrite)
    : folder_(resolve(folder)), part_(part_of(folder_)), overwrite_(overwrite) {
  std::error_code code;
  check_replaceable(folder_, overwrite);
  fs::remove_all(part_, code);
  if (code) fail_with_code("cannot remove", part_, code);
  fs::create_directory(part_, code);
  if (code) fail_with_code("cannot create", part_, code);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(part_, ignored);
}

void StagedFolder::commit() {
  sync_folder(part_);
  std::error_code code;
  check_replaceable(folder_, overwrite_);  // again: a long run has passed
  // A rename replaces empty folders only, so an old one is moved aside first.
  const fs::path aside = aside_of(folder_);
  const bool replace = holds_something(folder_);
  if (replace) {
    fs::remove_all(aside, code);
    fs::rename(folder_, aside, code);
    if (code) fail_with_code("cannot replace", folder_, code);
  }
  fs::rename(part_, folder_, code);
  if (code) {
    std::error_code ignored;
    if (replace) fs::rename(aside, folder_, ignored);
    fail_with_code("cannot create", folder_, code);
  }
  committed_ = true;
  if (replace) fs::remove_all(aside, code);
  sync_folder(folder_.parent_path());
}

}  // namespace qvlm
