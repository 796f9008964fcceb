#include "io/checksums.h"

#include <algorithm>
#include <set>
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

std::string name_of(const SafetensorsFile& file) {
  return file.path().filename().string();
}

// Compares what is in a folder with what its document promises.
class ChecksumCheck {
 public:
  ChecksumCheck(const fs::path& folder,
                const WeightFiles& weights,
                ProblemList& problems,
                const BytesRead& on_bytes)
      : folder_(folder), weights_(weights), problems_(problems), on_bytes_(on_bytes) {}

  VerifiedCounts run();

 private:
  bool load_document();
  void check_tensors(const SafetensorsFile& file, const Json& hashes);
  void find_missing_tensors(const Json& hashes);
  void check_file(const std::string& name, const Json& expected);
  void find_foreign_weights(const Json& hashes);
  bool is_opened(const std::string& weight_file) const {
    return std::ranges::any_of(weights_,
                               [&](const auto& file) { return name_of(*file) == weight_file; });
  }
  void add(std::string_view file, std::string_view tensor, const std::string& text) {
    problems_.add(file, tensor, text + doubt_);
  }
  void report_read(std::size_t bytes) const {
    if (on_bytes_) on_bytes_(static_cast<std::int64_t>(bytes));
  }

  const fs::path& folder_;
  const WeightFiles& weights_;
  ProblemList& problems_;
  const BytesRead& on_bytes_;
  Json document_;
  std::string doubt_;                // ends every line of a comparison with a damaged document
  std::set<std::string> found_;      // tensors
  std::set<std::string> different_;  // files with a tensor that differs
  VerifiedCounts counts_;
};

VerifiedCounts ChecksumCheck::run() {
  if (!load_document()) return counts_;
  // Tensors before whole files: they tell better what is damaged.
  problems_.attempt(kOwnFile, "", [&] {
    const Json hashes = document_.get("tensors");
    const Json files = document_.find("files");
    for (const auto& file : weights_) {
      // Others, a cache of packed weights perhaps, are no part of what was written.
      if (files.contains(name_of(*file))) check_tensors(*file, hashes);
    }
    find_missing_tensors(hashes);
  });
  problems_.attempt(kOwnFile, "", [&] {
    const Json hashes = document_.get("files");
    hashes.for_each(
        [&](const std::string& name, const Json& expected) { check_file(name, expected); });
    find_foreign_weights(hashes);
  });
  return counts_;
}

// Gives whether there is a document to compare with. One that does not match its own checksum still
// serves: most of its lines are right.
bool ChecksumCheck::load_document() {
  const fs::path file = folder_ / kOwnFile;
  ++counts_.files;
  if (!fs::exists(file)) {
    problems_.add(kOwnFile, "", "is missing: the weight files say that qvlm wrote the folder");
    return false;
  }
  std::string text;
  const bool read = problems_.attempt(kOwnFile, "", [&] {
    text = read_text_file(file);
    document_ = Json::parse(text, file.string());
  });
  if (!read) return false;
  const bool whole =
      problems_.attempt(kOwnFile, "", [&] { check_document(file, text, document_); });
  if (!whole) doubt_ = join(", or ", kOwnFile, " is wrong about it");
  return true;
}

void ChecksumCheck::check_tensors(const SafetensorsFile& file, const Json& hashes) {
  for (const auto& [name, tensor] : file.tensors()) {
    found_.insert(name);
    ++counts_.tensors;
    const Json expected = hashes.find(name);
    if (expected.is_null()) {
      counts_.headers_are_whole = false;
      add(name_of(file), name, join("is not listed in ", kOwnFile));
    } else if (sha256(tensor.bytes) != expected.as_string()) {
      different_.insert(name_of(file));
      add(name_of(file), name, "does not match its checksum");
    }
    report_read(tensor.bytes.size());
  }
}

// Tensors of files that are missing or cannot be opened are not told one by one.
void ChecksumCheck::find_missing_tensors(const Json& hashes) {
  std::vector<std::string> expected;
  document_.get("files").for_each([&](const std::string& name, const Json&) {
    if (fs::path(name).extension() == ".safetensors") expected.push_back(name);
  });
  if (!std::ranges::all_of(expected, [this](const auto& name) { return is_opened(name); })) {
    counts_.headers_are_whole = false;
    return;
  }
  const std::string file = expected.size() == 1 ? expected.front() : "";
  hashes.for_each([&](const std::string& name, const Json&) {
    if (found_.contains(name)) return;
    counts_.headers_are_whole = false;
    add(file, name, "is missing");
  });
}

void ChecksumCheck::check_file(const std::string& name, const Json& expected) {
  require(fs::path(name).filename() == name, ErrorKind::kCorrupt, expected.where(),
          ": expected a plain file name");
  ++counts_.files;
  if (!fs::exists(folder_ / name)) {
    if (!problems_.names(name)) add(name, "", "is missing");
    return;
  }
  problems_.attempt(name, "", [&] {
    if (sha256_file(folder_ / name, on_bytes_) == expected.as_string()) return;
    if (is_opened(name) && !different_.contains(name)) {
      counts_.headers_are_whole = false;
      add(name, "", "header: is not as it was written; the tensors that it lists are");
    } else if (!problems_.names(name)) {
      add(name, "", "does not match its checksum");
    }
  });
}

// A loader would take these instead of, or beside, what was written.
void ChecksumCheck::find_foreign_weights(const Json& hashes) {
  for (const char* name : {kSingleFile, kIndexFile}) {
    if (fs::exists(folder_ / name) && !hashes.contains(name))
      add(name, "", "is not one of the files that qvlm wrote");
  }
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

WeightFiles open_weight_files(const fs::path& folder, ProblemList& problems) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  WeightFiles files;
  for (const fs::path& path : paths) {
    const std::string name = path.filename().string();
    problems.attempt(name, "", [&] {
      const std::vector<SafetensorsProblem> found = SafetensorsFile::find_problems(path);
      for (const SafetensorsProblem& problem : found)
        problems.add(name, problem.tensor, problem.text);
      if (found.empty()) files.push_back(std::make_shared<const SafetensorsFile>(path));
    });
  }
  return files;
}

bool is_own_folder(const fs::path& folder, const WeightFiles& weights) {
  return fs::exists(folder / kOwnFile) || std::ranges::any_of(weights, [](const auto& file) {
           return file->metadata().contains(kOwnMark);
         });
}

VerifiedCounts verify_checksums(const fs::path& folder,
                                const WeightFiles& weights,
                                ProblemList& problems,
                                const BytesRead& on_bytes) {
  return ChecksumCheck(folder, weights, problems, on_bytes).run();
}

}  // namespace qvlm
