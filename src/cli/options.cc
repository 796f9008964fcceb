#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <map>

#include "base/error.h"
#include "io/kv_format.h"
#include "pipeline/recipe.h"

namespace qvlm::cli {
namespace {

constexpr const char* kExitCodes =
    "exit codes: 0 done, 2 usage, recipe or limits, 3 bad or missing file, 4 unsupported model or "
    "CPU, 5 gate failed, 75 stopped and resumable, 1 anything else";

// A verb: its parser, and where its options end up until it is clear which verb was meant.
template <typename T>
CLI::App* add_verb(CLI::App& app,
                   std::optional<Command>& chosen,
                   T& options,
                   const char* name,
                   const std::string& description,
                   const std::string& example) {
  CLI::App* verb = app.add_subcommand(name, description);
  verb->footer("everywhere: --threads N, --json, --quiet (see qvlm --help)\n\nexample:\n  " +
               example + "\n\n" + kExitCodes);
  verb->group("Verbs");
  verb->fallthrough();  // --json and its like may stand behind the verb
  verb->final_callback([&chosen, &options] { chosen = options; });
  return verb;
}

// A variable of a script that was never set arrives as an empty word.
CLI::Validator not_empty() {
  return {[](const std::string& text) { return text.empty() ? "expected a name, got ''" : ""; },
          ""};
}

// A number from low to high, neither of which NaN is.
CLI::Validator number_between(double low, double high, const std::string& expected) {
  return {[=](const std::string& text) {
            double value = 0.0;
            const bool fits =
                CLI::detail::lexical_cast(text, value) && value >= low && value <= high;
            return fits ? std::string() : "expected " + expected + ", got " + text;
          },
          ""};
}

// Digits only: CLI11 reads "-1" as the largest unsigned number.
CLI::Validator whole_number() {
  return {[](const std::string& text) {
            const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
            return digits ? "" : "expected a whole number from 0, got " + text;
          },
          ""};
}

void add_model(CLI::App* verb, std::string& model) {
  verb->add_option("MODEL", model, "model folder in Hugging Face form")
      ->required()
      ->check(not_empty())
      ->type_name("");
}

const std::vector<std::string> kExecutionNames = {"packed", "simulated", "float", "bf16"};

// REQUIRES: one of kExecutionNames.
Execution execution_of(const std::string& name) {
  return name == "packed"      ? Execution::kPacked
         : name == "simulated" ? Execution::kSimulated
         : name == "bf16"      ? Execution::kBf16
                               : Execution::kFloat;
}

void add_execution(CLI::App* verb, Execution& execution) {
  verb->add_option_function<std::string>(
          "--execution", [&execution](const std::string& name) { execution = execution_of(name); },
          "how quantized linears compute: integer kernels, float on rounded codes, or float with "
          "untouched activations; bf16: how all linears do; default packed")
      ->check(CLI::IsMember(kExecutionNames))
      ->type_name("HOW");
}

void add_kv_cache(CLI::App* verb, std::optional<KvFormat>& format) {
  verb->add_option_function<std::string>(
          "--kv-cache", [&format](const std::string& name) { format = find_kv_format(name); },
          "how keys and values are kept: float32, bf16 (half the memory), int8 (a quarter) or int4 "
          "(an eighth); default: as the model's folder asks for, else float32")
      ->check(CLI::IsMember({"float32", "bf16", "int8", "int4"}))
      ->type_name("FORMAT");
}

CLI::Option* add_file(CLI::App* verb,
                      const char* name,
                      std::string& file,
                      const std::string& description) {
  return verb->add_option(name, file, description)->type_name("FILE");
}

CLI::Option* add_data(CLI::App* verb, std::string& data) {
  return verb
      ->add_option("--data", data,
                   "calibration data: a JSONL file, or a folder with data.jsonl "
                   "(docs/calibration.md)")
      ->type_name("PATH");
}

void add_packed_cache(CLI::App* verb, std::string& file) {
  add_file(verb, "--packed-cache", file,
           "keep the weights as the kernels want them in this file: later loads map it");
}

// Mixed precision: one of four targets, with --scheme.
void add_targets(CLI::App* verb, std::optional<PrecisionTarget>& target, CLI::Option* file) {
  using Kind = PrecisionTarget::Kind;
  const auto add = [&](const char* name, Kind kind, const char* type, const char* expected,
                       const std::string& description) {
    const NumberRange range = target_range(kind);
    const auto choose = [&target, kind](const double& value) { target = {kind, value}; };
    return verb->add_option_function<double>(name, choose, description)
        ->excludes(file)
        ->check(number_between(range.low, range.high, expected))
        ->type_name(type);
  };
  CLI::Option* bits =
      add("--target-bpw", Kind::kBitsPerWeight, "BITS", "a number from 1 to 32",
          "mixed precision: linears that need it get 8 bits, weights and activations, until the "
          "decoder's take so many bits a weight, scales included; in place of W4A4's own mix");
  const std::map<std::string, double> units = {{"B", 1.0}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}};
  CLI::Option* size =
      add("--target-size", Kind::kBytes, "SIZE", "a number of bytes",
          "the same until all tensors of the result take so much: 4.2GB")
          ->transform(CLI::AsNumberWithUnit(units, static_cast<CLI::AsNumberWithUnit::Options>(
                                                       CLI::AsNumberWithUnit::CASE_INSENSITIVE |
                                                       CLI::AsNumberWithUnit::UNIT_OPTIONAL)));
  CLI::Option* divergence =
      add("--max-kl", Kind::kDivergence, "KL", "a number from 0",
          "the same until the answers' predicted KL to the float model is at most this");
  CLI::Option* activations =
      add("--target-activation-bits", Kind::kActivationBits, "BITS", "a number from 1 to 16",
          "8 bits for activations alone, until they have so many on average over the "
          "multiplications; takes no bytes. W4A4 has 4.5 unless told otherwise, 4 is all alike");
  bits->excludes(size)->excludes(divergence)->excludes(activations);
  size->excludes(divergence)->excludes(activations);
  divergence->excludes(activations);
}

// A file, or a scheme and a preset.
void add_recipe(CLI::App* verb, RecipeChoice& recipe) {
  CLI::Option_group* choice = verb->add_option_group("recipe");
  choice->add_option("--scheme", recipe.scheme, std::string("one of ") + kPresetSchemes)
      ->type_name("SCHEME");
  CLI::Option* file = add_file(choice, "--recipe", recipe.file,
                               "or which linear gets which scheme, and how (YAML)");
  choice->require_option(1);
  verb->add_option_function<std::string>(
          "--preset",
          [&recipe](const std::string& name) {
            for (const Preset preset : {Preset::kFast, Preset::kBalanced, Preset::kBest}) {
              if (name == preset_name(preset)) recipe.preset = preset;
            }
          },
          "how much work --scheme is worth; fast needs no data without a target; default balanced")
      ->check(CLI::IsMember({"fast", "balanced", "best"}))
      ->type_name("HOW")
      ->excludes(file);
  add_targets(verb, recipe.target, file);
}

CLI::Option* add_count(CLI::App* verb,
                       const char* name,
                       std::int64_t& value,
                       const std::string& description) {
  return verb->add_option(name, value, description + "; default " + std::to_string(value))
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30, "1 or more"))
      ->type_name("N");
}

// All verbs and the structs their options land in.
class Parser {
 public:
  Parser();
  std::optional<CommandLine> parse(int argc, const char* const* argv);

 private:
  void add_common();
  void add_inspect();
  void add_plan();
  void add_quantize();
  void add_analyze();
  void add_generate();
  void add_evaluate();
  void add_report();
  void add_gate();
  void add_verify();
  void add_bench();

  CLI::App app_{"Quantizes vision-language models, runs them, and measures what that costs.",
                "qvlm"};
  CommonOptions common_;
  InspectCommand inspect_;
  PlanCommand plan_;
  QuantizeCommand quantize_;
  AnalyzeCommand analyze_;
  GenerateCommand generate_;
  EvaluateCommand evaluate_;
  ReportCommand report_;
  GateCommand gate_;
  VerifyCommand verify_;
  BenchCommand bench_;
  std::optional<Command> chosen_;
};

Parser::Parser() {
  app_.require_subcommand(
      0, 1);  // none is our own error below: CLI11 would hide a misspelt verb behind it
  app_.footer(std::string("example:\n  qvlm generate models/reference-llava --image scene.png "
                          "--prompt \"what colour is "
                          "the circle?\"\n\n") +
              kExitCodes + "\nsizes: 1 MB = 1 000 000 bytes");
  app_.get_formatter()->label("SUBCOMMAND", "VERB");
  add_common();
  add_inspect();
  add_plan();
  add_quantize();
  add_analyze();
  add_generate();
  add_evaluate();
  add_report();
  add_gate();
  add_verify();
  add_bench();
}

void Parser::add_common() {
  app_.add_option("--threads", common_.threads, "threads to use; default: all cores")
      ->check(CLI::Range(1, 1024, "1 to 1024"))
      ->type_name("N");
  app_.add_flag("--json", common_.json, "print the result as one JSON object");
  app_.add_flag("--quiet", common_.quiet, "no progress and no log on stderr");
  app_.set_version_flag("--version", std::string("qvlm ") + QVLM_VERSION);
}

void Parser::add_inspect() {
  CLI::App* verb =
      add_verb(app_, chosen_, inspect_, "inspect",
               "Shows what a model folder holds: sizes, components, and how its linears compute.",
               "qvlm inspect models/reference-llava --tensors");
  add_model(verb, inspect_.model);
  verb->add_flag("--tensors", inspect_.tensors,
                 "list every tensor by its name in the files and by ours");
}

void Parser::add_plan() {
  CLI::App* verb =
      add_verb(app_, chosen_, plan_, "plan",
               "Says in seconds what `quantize` would do: schemes, bytes, memory, time. Writes "
               "nothing, and fails as `quantize` would, but for weights that are not finite.",
               "qvlm plan models/reference-llava --recipe configs/recipes/qvlm-w4a4.yaml");
  add_model(verb, plan_.model);
  verb->add_option("OUT", plan_.out, "folder that would be written; default: not checked")
      ->check(not_empty())
      ->type_name("");
  add_recipe(verb, plan_.recipe);
  add_data(verb, plan_.data);
  verb->add_flag("--linears", plan_.linears, "list every linear");
  verb->add_flag("--overwrite", plan_.overwrite, "OUT may exist");
}

void Parser::add_quantize() {
  CLI::App* verb = add_verb(
      app_, chosen_, quantize_, "quantize",
      "Quantizes a model by a scheme or a recipe and writes it as a compressed-tensors folder.",
      "qvlm quantize models/reference-llava out --scheme W4A4 --data data/easy-vqa-calibration\n  "
      "qvlm quantize models/reference-llava out --scheme W4A4 --target-bpw 4.5 --data "
      "data/easy-vqa-calibration\n  "
      "qvlm quantize models/reference-llava reference-w4a8 --recipe configs/recipes/w4a8.yaml\n  "
      "qvlm quantize models/reference-llava out --recipe configs/recipes/qvlm-w4a4.yaml --data "
      "data/easy-vqa-calibration");
  add_model(verb, quantize_.model);
  verb->add_option("OUT", quantize_.out, "folder to write; must not exist, or be empty")
      ->required()
      ->type_name("");
  add_recipe(verb, quantize_.recipe);
  add_data(verb, quantize_.data);
  add_file(verb, "--report", quantize_.report, "also write what was done to each linear (JSON)");
  verb->add_flag("--resume", quantize_.resume,
                 "go on from what a stopped or killed search finished");
  verb->add_flag("--overwrite", quantize_.overwrite, "replace OUT if it exists");
}

void Parser::add_analyze() {
  CLI::App* verb = add_verb(
      app_, chosen_, analyze_, "analyze",
      "Measures how layers depend on each other and what every planning strategy makes of it.",
      "qvlm analyze models/reference-llava --data data/easy-vqa-calibration --recipe "
      "configs/recipes/qvlm-w4a4.yaml --report analysis");
  add_model(verb, analyze_.model);
  add_data(verb, analyze_.data)->required();
  add_file(verb, "--recipe", analyze_.recipe, "recipe with a search: its schemes and candidates")
      ->required();
  verb->add_option("--report", analyze_.report,
                   "folder for analysis.json, the page index.html and statistics.safetensors")
      ->type_name("FOLDER");
  verb->add_option("--budget", analyze_.budget,
                   "layer-forwards a plan may cost; default: as the recipe says")
      ->check(number_between(1.0, 1e12, "a number from 1"))
      ->type_name("N");
  verb->add_flag("--joint-gains", analyze_.joint_gains,
                 "also measure what joint search gains from every layer on; takes minutes");
}

void Parser::add_generate() {
  CLI::App* verb = add_verb(
      app_, chosen_, generate_, "generate",
      "Answers a question, usually about an image; the text streams to stdout.",
      "qvlm generate models/reference-llava --image scene.png --prompt \"is there a circle?\"");
  GenerateOptions& options = generate_.options;
  add_model(verb, generate_.model);
  verb->add_option("--image", generate_.images, "PNG, JPEG or WebP; may be given several times")
      ->type_name("FILE")
      ->allow_extra_args(false);
  verb->add_option("--prompt", generate_.prompt, "the question")->required()->type_name("TEXT");
  add_count(verb, "--max-new-tokens", options.max_new_tokens, "most tokens to generate");
  verb->add_option("--temperature", options.temperature, "0: always the likeliest token; default 0")
      ->check(number_between(0.0, 1e6, "a number from 0"))
      ->type_name("T");
  verb->add_option("--top-k", options.top_k, "sample among the K likeliest tokens; default: all")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30, "1 or more"))
      ->type_name("K");
  verb->add_option("--top-p", options.top_p,
                   "sample among the likeliest tokens of total probability P; default 1")
      ->check(
          number_between(std::numeric_limits<double>::min(), 1.0, "a number above 0, at most 1"))
      ->type_name("P");
  verb->add_option("--seed", options.seed, "same seed, same text; default 0")
      ->check(whole_number())
      ->type_name("N");
  verb->add_option("--stop", options.stop, "end before this text; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  add_execution(verb, generate_.execution);
  add_kv_cache(verb, generate_.kv_cache);
  add_packed_cache(verb, generate_.packed_cache);
  add_file(verb, "--save-logits", generate_.save_logits,
           "also write the prompt's logits, float32 [tokens, vocab] (safetensors)");
}

void Parser::add_evaluate() {
  CLI::App* verb =
      add_verb(app_, chosen_, evaluate_, "evaluate",
               "Asks a model the questions of a data folder and counts the right answers.",
               "qvlm evaluate reference-w4a8 --data data/easy-vqa-test --reference float.json");
  add_model(verb, evaluate_.model);
  verb->add_option("--data", evaluate_.data, "folder with data.jsonl (docs/evaluation.md)")
      ->required()
      ->type_name("FOLDER");
  verb->add_option("--items", evaluate_.items, "only the first N items; default: all")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40, "1 or more"))
      ->type_name("N");
  add_count(verb, "--max-new-tokens", evaluate_.max_new_tokens, "most tokens of an answer");
  add_execution(verb, evaluate_.execution);
  add_kv_cache(verb, evaluate_.kv_cache);
  add_packed_cache(verb, evaluate_.packed_cache);
  add_file(verb, "--report", evaluate_.report,
           "write every answer (JSON) and, beside it as <name>.logits.safetensors, the logits");
  verb->add_flag(
      "!--no-speed", evaluate_.speed,
      "do not measure the speed for the report, which loads the model once more in float");
  add_file(verb, "--reference", evaluate_.reference,
           "compare item by item with this earlier report");
}

void Parser::add_report() {
  CLI::App* verb =
      add_verb(app_, chosen_, report_, "report",
               "Puts reports of `qvlm evaluate` side by side; the first is the reference.",
               "qvlm report float.json w8a8.json w4a8.json");
  verb->add_option("REPORT", report_.files, "reports of the same items")->required()->type_name("");
  verb->add_flag("--markdown", report_.markdown, "print the table as Markdown");
}

void Parser::add_gate() {
  CLI::App* verb = add_verb(
      app_, chosen_, gate_, "gate",
      "Compares a report of `qvlm evaluate` with a reference item by item; exits with 5 when it is "
      "beyond a limit, with 2 when a limit asks for more than so few items can show.",
      "qvlm gate w4a8.json --against reference.json --limits configs/gates/regression.yaml");
  verb->add_option("REPORT", gate_.report, "report of the model to judge")
      ->required()
      ->check(not_empty())
      ->type_name("");
  add_file(verb, "--against", gate_.reference, "report of the same items to compare with")
      ->required();
  add_file(verb, "--limits", gate_.limits, "how far the two may be apart (YAML, docs/ci.md)")
      ->required();
  add_file(verb, "--junit", gate_.junit, "also write the verdict as JUnit XML");
  add_file(verb, "--markdown", gate_.markdown, "also write it as Markdown");
}

void Parser::add_verify() {
  CLI::App* verb =
      add_verb(app_, chosen_, verify_, "verify",
               "Checks everything in a model folder: checksums (of folders that qvlm wrote), "
               "tensors, codes, "
               "and a few forward passes. Prints a line per problem; any exits with 3.",
               "qvlm verify reference-w4a8 --against models/reference-llava");
  verb->add_option("FOLDER", verify_.folder, "model folder, usually one `qvlm quantize` wrote")
      ->required()
      ->check(not_empty())
      ->type_name("");
  verb->add_option("--against", verify_.against,
                   "also compare with the float model that FOLDER was made of")
      ->check(not_empty())
      ->type_name("MODEL");
  verb->add_flag_callback(
      "--no-run", [this] { verify_.run = false; },
      "no forward passes: they take the memory of a float model");
}

void Parser::add_bench() {
  CLI::App* verb =
      add_verb(app_, chosen_, bench_, "bench",
               "Measures speed and memory of a model in float, in bf16 and after recipes.",
               "qvlm bench models/reference-llava --recipe w4a8,w8a8\n  "
               "qvlm bench --synthetic llava-1.5-7b --layers 4");
  CLI::Option* model = verb->add_option("MODEL", bench_.model, "model folder in Hugging Face form")
                           ->check(not_empty())
                           ->type_name("");
  CLI::Option* synthetic =
      verb->add_option("--synthetic", bench_.synthetic,
                       "made-up weights in the shapes of llava-1.5-7b or llava-1.5-13b, no MODEL")
          ->check(not_empty())
          ->excludes(model)
          ->type_name("NAME");
  verb->add_option("--layers", bench_.layers,
                   "cut the synthetic model to so many layers; default: all")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30, "1 or more"))
      ->needs(synthetic)
      ->type_name("N");
  CLI::Option* recipe =
      verb->add_option("--recipe", bench_.recipes,
                       "recipes to compare, by name or file, or 'all'; default w8a8,w4a8,w4a16")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->type_name("NAME|FILE");
  verb->add_option("--prompt-tokens", bench_.prompt_tokens,
                   "positions of the prompt, those of one image included; default: 64 more")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30, "1 or more"))
      ->type_name("N");
  add_count(verb, "--new-tokens", bench_.new_tokens, "tokens to decode");
  verb->add_option("--repeats", bench_.repeats, "rounds to take the median of; default 5")
      ->check(CLI::Range(1, 1000, "1 to 1000"))
      ->type_name("N");
  verb->add_option_function<std::string>(
          "--execution", [this](const std::string& name) { bench_.execution = execution_of(name); },
          "measure only the model as it is, computed so; default for a quantized one: packed")
      ->check(CLI::IsMember(kExecutionNames))
      ->excludes(synthetic)
      ->excludes(recipe)
      ->type_name("HOW");
  add_kv_cache(verb, bench_.kv_cache);
}

std::optional<CommandLine> Parser::parse(int argc, const char* const* argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // help or version
    app_.exit(asked);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    const auto verbs = app_.get_subcommands();
    const std::string verb = verbs.empty() ? "" : " " + verbs.front()->get_name();
    fail(ErrorKind::kInvalidArgument, error.what(), "; see qvlm", verb, " --help");
  }
  require(chosen_.has_value(), ErrorKind::kInvalidArgument,
          "expected inspect, plan, quantize, analyze, generate, evaluate, report, gate, verify or "
          "bench; "
          "see qvlm --help");
  return CommandLine{common_, *chosen_};
}

}  // namespace

std::optional<CommandLine> parse_command_line(int argc, const char* const* argv) {
  return Parser().parse(argc, argv);
}

}  // namespace qvlm::cli
