// Checksums of a checkpoint that qvlm wrote: qvlm.json lists the SHA-256 of every tensor, of every
// other file and of itself (of its text with that one value empty).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "base/json.h"

namespace qvlm {

// Adds "files" (hashed now, all in the folder), "tensors" and "sha256" to the document and gives
// its final text.
std::string seal_document(Json document,
                          const std::filesystem::path& folder,
                          const std::map<std::string, std::string>& tensors);

struct VerifiedCounts {
  std::int64_t files = 0;
  std::int64_t tensors = 0;
};

// Recomputes all checksums. Throws kCorrupt naming the first tensor or file that differs or is
// missing, kNotFound if the folder has no qvlm.json (a foreign checkpoint carries no checksums).
VerifiedCounts verify_checksums(const std::filesystem::path& folder);

}  // namespace qvlm
