// Judging a model on a data set, and comparing two such judgements item by item.
#pragma once

#include <qvlm/quantize.h>
#include <qvlm/session.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// One question's outcome.
struct ItemResult {
  std::string id;
  std::string category;
  std::string answer;      // the data set's
  std::string prediction;  // the model's, as generated
  bool correct = false;
  double margin = 0.0;  // logit of the right answer's first token minus the best other option's
};

// A share with its 95 % Wilson score interval.
struct Share {
  std::int64_t count = 0, total = 0;
  double value = 0.0, low = 0.0, high = 0.0;
};

struct Report {
  std::string model;      // folder
  std::string execution;  // "packed", "simulated", "float"
  std::string data;       // folder
  std::vector<ItemResult> items;
  std::int64_t checkpoint_bytes = 0;
  double load_seconds = 0.0;
  double seconds = 0.0;  // running the items
  std::int64_t peak_memory_bytes = 0;  // of the process, highest resident set
  std::string logits_file;  // float32 [items, vocab]: logits at the first answer position; beside the report

  Share accuracy() const;
  std::vector<std::pair<std::string, Share>> accuracy_by_category() const;  // in name order

  // JSON; the logits file is found beside it. Throw kNotFound, kCorrupt, kIo.
  static Report load(const std::filesystem::path& file);
  void save(const std::filesystem::path& file) const;
};

struct EvaluateOptions {
  Execution execution = Execution::kPacked;
  std::int64_t items = 0;  // the first so many; 0: all
  std::int64_t max_new_tokens = 8;
  std::filesystem::path logits_file;  // empty: logits are not kept
};

// Runs the questions of a data folder (data.jsonl, see docs/evaluation.md) greedily, images in parallel.
Report evaluate(const std::filesystem::path& model,
                const std::filesystem::path& data,
                const EvaluateOptions& options = {},
                const ProgressCallback& progress = {});

// How `result` differs from `reference` on the same items.
struct Comparison {
  Share agreement;                // same prediction
  std::int64_t lost = 0;          // right in the reference, wrong here
  std::int64_t won = 0;           // wrong in the reference, right here
  double mcnemar_p = 1.0;         // exact two-sided
  std::optional<double> kl_mean;  // KL(reference || result) of the answer logits, natural logarithm; nothing
  std::optional<double> kl_median;        // when one side has no logits
  std::optional<double> kl_trimmed_mean;  // without the highest 1 %
  double margin_change = 0.0;     // mean of result's margin minus reference's
};

// Throws kInvalidArgument when the two did not run the same items.
Comparison compare(const Report& result, const std::filesystem::path& result_folder, const Report& reference,
                   const std::filesystem::path& reference_folder);

}  // namespace qvlm
