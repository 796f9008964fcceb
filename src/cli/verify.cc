// qvlm verify: whether a folder that qvlm wrote still is what was written.
#include <iostream>

#include "base/json.h"
#include "cli/commands.h"
#include "io/checksums.h"

namespace qvlm::cli {

void run(const VerifyCommand& command, const CommonOptions& common) {
  const VerifiedCounts counts = verify_checksums(command.folder);
  if (common.json) {
    Json json = Json::object();
    json.set("folder", command.folder);
    json.set("tensors", counts.tensors);
    json.set("files", counts.files);
    std::cout << json.dump(2) << "\n";
    return;
  }
  std::cout << command.folder << ": " << counts.tensors << " tensors and " << counts.files
            << " files are as they were written\n";
}

}  // namespace qvlm::cli
