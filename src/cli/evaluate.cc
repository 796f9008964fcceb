// qvlm evaluate: a model asked the questions of a data folder.
#include <qvlm/evaluate.h>

#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/output_place.h"
#include "cli/progress.h"
#include "cli/report_table.h"

namespace qvlm::cli {
namespace {

namespace fs = std::filesystem;

// Where the run's logits lie: beside the report, or, for a comparison without a report, in a
// temporary file that is gone afterwards.
class LogitsPlace {
 public:
  explicit LogitsPlace(const EvaluateCommand& command) {
    if (!command.report.empty()) {
      file_ = fs::path(command.report).replace_extension(".logits.safetensors");
    } else if (!command.reference.empty()) {
      file_ = fs::temp_directory_path() / ("qvlm-" + std::to_string(::getpid()) + ".safetensors");
      temporary_ = true;
    }
  }
  ~LogitsPlace() {
    std::error_code ignored;
    if (temporary_) fs::remove(file_, ignored);
  }
  LogitsPlace(const LogitsPlace&) = delete;
  LogitsPlace& operator=(const LogitsPlace&) = delete;

  const fs::path& file() const { return file_; }

 private:
  fs::path file_;
  bool temporary_ = false;
};

// The reference, read before any work. It must not be the file that this run is going to replace.
std::optional<Report> load_reference(const EvaluateCommand& command) {
  if (command.reference.empty()) return std::nullopt;
  const bool same = fs::exists(command.report) && fs::equivalent(command.report, command.reference);
  require(!same, ErrorKind::kInvalidArgument, "--report and --reference name the same file, ",
          command.report);
  return Report::load(command.reference);
}

void print_report(const EvaluateCommand& command, const ComparedReport& compared) {
  const Report& report = compared.report;
  std::cout << category_table(report).text() << "\n";
  if (compared.comparison) {
    std::cout << "against " << command.reference << "\n"
              << describe_comparison(*compared.comparison) << "\n";
  }
  std::cout << "products       " << describe_products(report) << "\n"
            << "checkpoint     " << format_bytes(report.checkpoint_bytes)
            << " (1 MB = 1 000 000 bytes)\n"
            << "time           " << format_seconds(report.seconds) << ", and "
            << format_seconds(report.load_seconds) << " to load\n"
            << "peak memory    " << format_bytes(report.peak_memory_bytes) << "\n";
}

}  // namespace

void run(const EvaluateCommand& command, const CommonOptions& common) {
  const std::optional<Report> reference = load_reference(command);
  check_output(command.report);
  const LogitsPlace logits(command);
  EvaluateOptions options;
  options.execution = command.execution;
  options.kv_cache = command.kv_cache;
  options.packed_cache = command.packed_cache;
  options.items = command.items;
  options.max_new_tokens = command.max_new_tokens;
  options.logits_file = logits.file();
  options.hashes = !command.report.empty();
  options.speed = command.speed && !command.report.empty();
  options.reference = reference ? &*reference : nullptr;
  ComparedReport compared;
  {
    ProgressLine line(common.quiet);
    compared.report = evaluate(command.model, command.data, options,
                               [&line](const Progress& progress) { line.update(progress); });
  }
  if (!command.report.empty()) compared.report.save(command.report);
  if (reference) compared.comparison = compare(compared.report, *reference);
  if (common.json) {
    std::cout << summary_json(compared).dump(2) << "\n";
  } else {
    print_report(command, compared);
  }
}

}  // namespace qvlm::cli
