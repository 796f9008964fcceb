// What `qvlm bench` compares: one model in float, in bf16 and after recipes, from a folder or with
// synthetic weights.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/progress.h"
#include "model/vlm.h"

namespace qvlm::cli {

// One way to run the model.
struct Variant {
  std::string name;  // "float", "bf16", or of a recipe
  Execution execution = Execution::kPacked;
  std::map<std::string, LinearScheme> schemes;  // of its quantized linears
  std::function<Vlm()> load;
};

// A folder for quantized copies, removed with everything in it.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct VariantList {
  ModelConfig config;
  std::int64_t stored_bytes = 2;  // of a value of its float matrices
  std::vector<Variant> variants;
  std::vector<std::string> left_out;  // recipes that do not fit the model, and why
  std::unique_ptr<ScratchFolder> scratch;
};

// Prepares what the command asks for: reads recipes and, for a float folder, quantizes it with each
// into a scratch folder. Throws kInvalidArgument for an unknown recipe, one that was asked for by
// name and does not fit, or recipes for a quantized folder; and what reading throws.
VariantList make_variants(const BenchCommand& command, ProgressLine& line);

}  // namespace qvlm::cli
