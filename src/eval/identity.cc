#include "eval/identity.h"

#include <qvlm/kernels.h>

#include <algorithm>
#include <set>
#include <vector>

#include "base/machine.h"
#include "base/parallel.h"
#include "io/sha256.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

// Files by their paths below `folder`, in that order.
std::string hash_files(const fs::path& folder, const std::set<std::string>& names) {
  const std::vector<std::string> list(names.begin(), names.end());
  std::vector<std::string> hashes(list.size());
  for_each_apart(static_cast<std::int64_t>(list.size()), [&](std::int64_t i) {
    hashes[static_cast<std::size_t>(i)] = sha256_file(folder / list[static_cast<std::size_t>(i)]);
  });
  std::string text;
  for (std::size_t i = 0; i < list.size(); ++i)
    text += list[i] + " " + hashes[i] + "\n";
  return sha256(text);
}

kernels::CpuLevel best_level() {
  kernels::CpuLevel best = kernels::CpuLevel::kScalar;
  for (const auto level : {kernels::CpuLevel::kAvx2, kernels::CpuLevel::kAvx512Vnni}) {
    if (kernels::cpu_supports(level)) best = level;
  }
  return best;
}

}  // namespace

ReportIdentity identify_run() {
  ReportIdentity identity;
  identity.tool = "qvlm " QVLM_VERSION;
  identity.cpu = cpu_name() + ", " + std::string(kernels::cpu_level_name(best_level()));
  identity.cpu_level = kernels::cpu_level_name(kernels::cpu_level());
  identity.threads = thread_count();
  return identity;
}

std::string hash_model(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file()) names.insert(entry.path().filename().string());
  }
  return hash_files(folder, names);
}

std::string hash_data(const Dataset& dataset, std::size_t items) {
  std::set<std::string> names = {"data.jsonl"};
  if (fs::exists(dataset.folder / "meta.json")) names.insert("meta.json");
  for (std::size_t i = 0; i < std::min(items, dataset.items.size()); ++i) {
    for (const fs::path& image : dataset.items[i].images)
      names.insert(image.lexically_relative(dataset.folder).string());
  }
  return hash_files(dataset.folder, names);
}

}  // namespace qvlm
