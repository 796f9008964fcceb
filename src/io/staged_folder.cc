#include "io/staged_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <system_error>

#include "base/error.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

// "models/out/" and "models/out" are the same folder, and ".part" belongs beside it.
fs::path plain_path(const fs::path& path) {
  const fs::path plain = fs::absolute(path).lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

[[noreturn]] void fail_with_code(const char* what, const fs::path& path, std::error_code code) {
  fail(ErrorKind::kIo, what, " ", path.string(), ": ", code.message());
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

bool holds_something(const fs::path& folder) {
  std::error_code code;
  const bool something = fs::exists(folder, code) && !fs::is_empty(folder, code);
  if (code && code != std::errc::no_such_file_or_directory)
    fail_with_code("cannot read", folder, code);
  return something;
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& folder, bool overwrite)
    : folder_(plain_path(folder)), part_(folder_.string() + ".part") {
  std::error_code code;
  require(!fs::exists(folder_, code) || fs::is_directory(folder_, code),
          ErrorKind::kInvalidArgument, folder_.string(), " is not a folder");
  require(overwrite || !holds_something(folder_), ErrorKind::kInvalidArgument, folder_.string(),
          " is not empty; choose another folder or ask to overwrite it");
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
  // A rename replaces empty folders only, so an old one is moved aside first.
  const fs::path aside = folder_.string() + ".replaced.part";
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
