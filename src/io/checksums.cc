#include "io/checksums.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/checkpoint.h"
#include "io/quantization_config.h"
#include "io/sha256.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

std::string own_line(const std::string& hash) {
  return "\"sha256\": \"" + hash + "\"";
}

// The document is the one file that cannot hold its own hash: that value is emptied first.
void check_document(const fs::path& file, const std::string& text, const Json& document) {
  const std::string hash = document.get_string("sha256");
  std::string emptied = text;
  const std::size_t place = emptied.rfind(own_line(hash));
  require(place != std::string::npos, ErrorKind::kCorrupt, file.string(),
          ": was reformatted by another program");
  emptied.replace(place, own_line(hash).size(), own_line(""));
  require(sha256(emptied) == hash, ErrorKind::kCorrupt, file.string(),
          ": its checksum does not match its contents");
}

// Tensors before whole files: they tell better what is damaged.
std::int64_t check_tensors(const fs::path& folder, const Json& hashes) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const std::vector<TensorView> tensors = checkpoint.tensors();
  for (const TensorView& tensor : tensors) {
    const Json expected = hashes.find(tensor.name);
    require(!expected.is_null(), ErrorKind::kCorrupt, folder.string(), ": tensor '", tensor.name,
            "' is not listed in ", kOwnFile);
    require(sha256(tensor.bytes) == expected.as_string(), ErrorKind::kCorrupt, folder.string(),
            ": tensor '", tensor.name, "' does not match its checksum");
  }
  require(tensors.size() == hashes.size(), ErrorKind::kCorrupt, folder.string(), ": ", kOwnFile,
          " lists ", hashes.size(), " tensors, the weight files have ", tensors.size());
  return static_cast<std::int64_t>(tensors.size());
}

void check_file(const fs::path& folder, const std::string& name, const Json& expected) {
  require(fs::path(name).filename() == name, ErrorKind::kCorrupt, expected.where(),
          ": expected a plain file name");
  require(fs::exists(folder / name), ErrorKind::kCorrupt, folder.string(), ": the file ", name,
          " is missing");
  require(sha256_file(folder / name) == expected.as_string(), ErrorKind::kCorrupt,
          (folder / name).string(), " does not match its checksum");
}

}  // namespace

std::string seal_document(Json document,
                          const fs::path& folder,
                          const std::map<std::string, std::string>& tensors) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  Json tensor_hashes = Json::object();
  for (const auto& [name, hash] : tensors)
    tensor_hashes.set(name, hash);
  Json file_hashes = Json::object();
  for (const std::string& name : names)
    file_hashes.set(name, sha256_file(folder / name));
  document.set("tensors", tensor_hashes);
  document.set("files", file_hashes);
  document.set("sha256", "");
  std::string text = document.dump(1) + "\n";
  const std::size_t place = text.rfind(own_line(""));
  return text.replace(place, own_line("").size(), own_line(sha256(text)));
}

VerifiedCounts verify_checksums(const fs::path& folder) {
  const fs::path file = folder / kOwnFile;
  require(fs::exists(file), ErrorKind::kNotFound, folder.string(), ": no ", kOwnFile,
          ", so there are no checksums to compare with");
  const std::string text = read_text_file(file);
  const Json document = Json::parse(text, file.string());
  check_document(file, text, document);
  VerifiedCounts counts;
  counts.tensors = check_tensors(folder, document.get("tensors"));
  document.get("files").for_each([&](const std::string& name, const Json& expected) {
    check_file(folder, name, expected);
    ++counts.files;
  });
  return counts;
}

}  // namespace qvlm
