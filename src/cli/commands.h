// The verbs of the command line: what each was asked to do, as plain structs that options.cc fills,
// and one function that does it, in the file of that name. Results go to stdout, everything else to
// stderr.
#pragma once

#include <qvlm/recipe.h>
#include <qvlm/session.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace qvlm::cli {

// Options that every verb understands.
struct CommonOptions {
  int threads = 0;     // 0: as many as the system gives
  bool json = false;   // the result as one JSON object instead of a table
  bool quiet = false;  // no progress, no log
};

struct InspectCommand {
  std::string model;
  bool tensors = false;  // list every tensor
};

// A recipe: a file, or a scheme and how much work it is worth.
struct RecipeChoice {
  std::string file, scheme;  // just one of them is set
  Preset preset = Preset::kBalanced;
  std::optional<PrecisionTarget> target = {};  // of the scheme: mixed precision

  Recipe load() const {
    return file.empty() ? Recipe::preset(scheme, preset, target) : Recipe::load(file);
  }
};

struct PlanCommand {
  std::string model;
  RecipeChoice recipe;
  std::string out;       // where the result would go; empty: not checked
  std::string data;      // calibration data; empty: none
  bool linears = false;  // list every linear
  bool overwrite = false;
};

struct QuantizeCommand {
  std::string model, out;
  RecipeChoice recipe;
  std::string data;    // calibration data; empty: none
  std::string report;  // empty: none
  bool overwrite = false;
  bool resume = false;
};

struct AnalyzeCommand {
  std::string model, data, recipe, report;
  bool joint_gains = false;
  double budget = 0.0;  // layer-forwards; 0: as the recipe says
};

struct GenerateCommand {
  std::string model;
  std::string prompt;
  std::vector<std::string> images;
  GenerateOptions options;
  Execution execution = Execution::kPacked;
  std::optional<KvFormat> kv_cache;  // nothing: as the model asks for, else float32
  std::string packed_cache;          // empty: none
  std::string save_logits;           // empty: not saved
};

struct EvaluateCommand {
  std::string model, data;
  std::int64_t items = 0;  // 0: all
  std::int64_t max_new_tokens = 8;
  Execution execution = Execution::kPacked;
  std::optional<KvFormat> kv_cache;  // nothing: as the model asks for, else float32
  std::string packed_cache;          // empty: none
  std::string report;                // empty: none
  std::string reference;             // empty: none
  bool speed = true;                 // measured for the report
};

struct ReportCommand {
  std::vector<std::string> files;  // the first is the reference
  bool markdown = false;
};

struct GateCommand {
  std::string report, reference, limits;
  std::string junit, markdown;  // empty: none
};

// Thrown by `gate` behind its output: the result is beyond a limit. Not an Error: nothing went
// wrong.
struct GateFailed {
  std::string summary;
};

struct VerifyCommand {
  std::string folder;
  std::string against;  // the float model it was made of; empty: not compared
  bool run = true;      // forward passes
};

struct BenchCommand {
  std::string model;                 // empty with `synthetic`
  std::string synthetic;             // name of a known model; empty: `model` is a folder
  std::int64_t layers = 0;           // of the synthetic model; 0: all
  std::vector<std::string> recipes;  // names or files, or "all"; empty: the usual ones
  std::int64_t prompt_tokens = 0;    // 0: one image and 64 of text
  std::int64_t new_tokens = 32;
  int repeats = 5;
  std::optional<KvFormat> kv_cache;    // nothing: as the model asks for, else float32
  std::optional<Execution> execution;  // given: only the model as it is, computed so
};

using Command = std::variant<InspectCommand,
                             PlanCommand,
                             QuantizeCommand,
                             AnalyzeCommand,
                             GenerateCommand,
                             EvaluateCommand,
                             ReportCommand,
                             GateCommand,
                             VerifyCommand,
                             BenchCommand>;

void run(const InspectCommand& command, const CommonOptions& common);
void run(const PlanCommand& command, const CommonOptions& common);
void run(const QuantizeCommand& command, const CommonOptions& common);
void run(const AnalyzeCommand& command, const CommonOptions& common);
void run(const GenerateCommand& command, const CommonOptions& common);
void run(const EvaluateCommand& command, const CommonOptions& common);
void run(const ReportCommand& command, const CommonOptions& common);
void run(const GateCommand& command, const CommonOptions& common);
void run(const VerifyCommand& command, const CommonOptions& common);
void run(const BenchCommand& command, const CommonOptions& common);

}  // namespace qvlm::cli
