#include "cli/output_place.h"

#include <filesystem>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm::cli {

void check_output(const std::string& file) {
  if (file.empty()) return;
  require(!std::filesystem::is_directory(file), ErrorKind::kIo, "cannot write ", file,
          ": it is a folder");
  const AtomicFile attempt(file);  // gone again without a commit
}

}  // namespace qvlm::cli
