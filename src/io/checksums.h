// Checksums of a checkpoint that qvlm wrote: qvlm.json lists the SHA-256 of every tensor, of every
// other file and of itself (of its text with that one value empty).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/problem_list.h"
#include "io/safetensors.h"

namespace qvlm {

// Adds "files" (hashed now, all in the folder), "tensors" and "sha256" to the document and gives
// its final text.
std::string seal_document(Json document,
                          const std::filesystem::path& folder,
                          const std::map<std::string, std::string>& tensors);

using WeightFiles = std::vector<std::shared_ptr<const SafetensorsFile>>;

// Opens all weight files of a folder, in name order. Those that cannot be opened become problems,
// with the tensors that their headers or their sizes are wrong about.
WeightFiles open_weight_files(const std::filesystem::path& folder, ProblemList& problems);

// Whether a folder is one that qvlm wrote, by its qvlm.json or, should that have been lost, by the
// metadata of its weight files.
bool is_own_folder(const std::filesystem::path& folder, const WeightFiles& weights);

struct VerifiedCounts {
  std::int64_t files = 0;    // compared with their checksums, qvlm.json included
  std::int64_t tensors = 0;  // likewise
  // Whether the weight files hold the tensors that are listed, in the shapes in which they were
  // written. If not, names and schemes would contradict each other in ways that tell nothing new.
  bool headers_are_whole = true;
};

// Recomputes all checksums of a folder that qvlm wrote; `weights` are its weight files that could
// be opened. What differs, is missing or is not listed goes to `problems`. A file whose tensors are
// all right but which differs is damaged in its header.
VerifiedCounts verify_checksums(const std::filesystem::path& folder,
                                const WeightFiles& weights,
                                ProblemList& problems,
                                const BytesRead& on_bytes = {});

}  // namespace qvlm
