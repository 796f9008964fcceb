#include "cli/bench_variants.h"

#include <qvlm/quantize.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "eval/report_json.h"
#include "io/quantization_config.h"
#include "model/known_models.h"
#include "model/linear_list.h"
#include "model/synthetic_weights.h"
#include "pipeline/recipe.h"

namespace qvlm::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 1;

// The recipes that come with qvlm: of an installed one those installed with it, wherever its prefix
// was moved to; else of the current folder, else of the sources it was built from.
fs::path recipe_folder() {
  std::error_code ignored;
  const fs::path executable = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path installed =
      (executable.parent_path() / QVLM_INSTALLED_RECIPE_FOLDER).lexically_normal();
  if (!executable.empty() && fs::is_directory(installed)) return installed;
  const fs::path here = fs::path("configs") / "recipes";
  return fs::is_directory(here) ? here : fs::path(QVLM_RECIPE_FOLDER);
}

std::vector<fs::path> list_recipes() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(recipe_folder())) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// A file, or the name of a recipe that comes with qvlm.
fs::path find_recipe(const std::string& name) {
  if (fs::exists(name)) return name;
  const fs::path file = recipe_folder() / (name + ".yaml");
  require(fs::exists(file), ErrorKind::kInvalidArgument, "recipe '", name,
          "' is neither a file nor one of ", recipe_folder().string());
  return file;
}

struct ChosenRecipes {
  std::vector<Recipe> recipes;
  bool by_name = false;  // each was asked for: one that does not fit is an error
};

ChosenRecipes choose_recipes(const std::vector<std::string>& names) {
  ChosenRecipes chosen;
  std::vector<fs::path> files;
  if (names == std::vector<std::string>{"all"}) {
    files = list_recipes();
  } else if (names.empty()) {
    for (const char* usual : {"w8a8", "w4a8", "w4a16"})
      files.push_back(find_recipe(usual));
  } else {
    for (const std::string& name : names)
      files.push_back(find_recipe(name));
    chosen.by_name = true;
  }
  for (const fs::path& file : files)
    chosen.recipes.push_back(Recipe::load(file));
  return chosen;
}

// Calls add(recipe, schemes) for each recipe that fits the model.
template <typename Add>
void for_fitting_recipes(const ChosenRecipes& chosen, VariantList& list, const Add& add) {
  const std::vector<LinearShape> linears = list_linears(list.config);
  for (const Recipe& recipe : chosen.recipes) {
    try {
      require(!recipe.needs_data(), ErrorKind::kInvalidArgument, "recipe '", recipe.name,
              "' needs calibration data: quantize with it, then bench the folder");
      add(recipe, apply_recipe(recipe, linears));
    } catch (const Error& error) {
      if (chosen.by_name || error.kind() != ErrorKind::kInvalidArgument) throw;
      list.left_out.emplace_back(error.what());
    }
  }
}

Variant synthetic_variant(std::string name,
                          Execution execution,
                          std::map<std::string, LinearScheme> schemes,
                          const ModelConfig& config) {
  const auto load = [execution, schemes, config] {
    const auto source = std::make_shared<const SyntheticWeights>(schemes, kSeed);
    return Vlm::load(Weights(source, execution), config);
  };
  return {std::move(name), execution, std::move(schemes), load};
}

Variant folder_variant(std::string name, Execution execution, const fs::path& folder) {
  const auto quantization = QuantizationConfig::load(Checkpoint::open(folder));
  std::map<std::string, LinearScheme> schemes;
  if (quantization) schemes.insert(quantization->linears().begin(), quantization->linears().end());
  return {std::move(name), execution, std::move(schemes),
          [folder, execution] { return Vlm::load(Checkpoint::open(folder), execution); }};
}

VariantList make_synthetic(const BenchCommand& command) {
  VariantList list;
  list.config = make_known_config(command.synthetic, command.layers);
  list.variants.push_back(synthetic_variant("float", Execution::kFloat, {}, list.config));
  list.variants.push_back(synthetic_variant("bf16", Execution::kBf16, {}, list.config));
  for_fitting_recipes(
      choose_recipes(command.recipes), list, [&](const Recipe& recipe, const auto& schemes) {
        list.variants.push_back(
            synthetic_variant(recipe.name, Execution::kPacked, schemes, list.config));
      });
  return list;
}

VariantList make_from_folder(const BenchCommand& command, ProgressLine& line) {
  const Checkpoint checkpoint = Checkpoint::open(command.model);
  VariantList list;
  list.config = load_model_config(checkpoint);
  const DType table = checkpoint.get_tensor("decoder.embed_tokens.weight").dtype;
  list.stored_bytes = dtype_size(table) == 2 ? 2 : 4;
  const bool quantized = QuantizationConfig::load(checkpoint).has_value();
  require(!quantized || command.recipes.empty(), ErrorKind::kInvalidArgument, command.model,
          ": is quantized already; --recipe needs the float checkpoint");
  if (quantized || command.execution) {
    const Execution execution = command.execution.value_or(Execution::kPacked);
    list.variants.push_back(folder_variant(execution_name(execution), execution, command.model));
    return list;
  }
  list.variants.push_back(folder_variant("float", Execution::kFloat, command.model));
  list.variants.push_back(folder_variant("bf16", Execution::kBf16, command.model));
  list.scratch = std::make_unique<ScratchFolder>();
  for_fitting_recipes(
      choose_recipes(command.recipes), list, [&](const Recipe& recipe, const auto&) {
        const fs::path folder =
            list.scratch->path() / std::to_string(list.variants.size());  // names may be equal
        quantize(command.model, folder, recipe, {},
                 [&](const Progress& progress) { line.update(progress); });
        list.variants.push_back(folder_variant(recipe.name, Execution::kPacked, folder));
      });
  return list;
}

}  // namespace

ScratchFolder::ScratchFolder()
    : path_(fs::temp_directory_path() / ("qvlm-bench-" + std::to_string(::getpid()))) {
  require(fs::create_directory(path_), ErrorKind::kIo, "cannot create ", path_.string(),
          ": it exists");
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

VariantList make_variants(const BenchCommand& command, ProgressLine& line) {
  require(!command.model.empty() || !command.synthetic.empty(), ErrorKind::kInvalidArgument,
          "bench: expected a MODEL or --synthetic NAME; see qvlm bench --help");
  return command.synthetic.empty() ? make_from_folder(command, line) : make_synthetic(command);
}

}  // namespace qvlm::cli
