// Judging a model on a data set, and comparing two such judgements item by item.
//
//   qvlm::Report reference = qvlm::evaluate("models/reference-llava", "data/easy-vqa-test");
//   qvlm::Report result = qvlm::evaluate("w4a8", "data/easy-vqa-test");
//   double p = qvlm::compare(result, reference).mcnemar_p;
//
// Data layout, protocols and formulas: docs/evaluation.md.
#pragma once

#include <qvlm/quantize.h>
#include <qvlm/session.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qvlm {

// One question's outcome.
struct ItemResult {
  std::string id;
  std::string category;
  std::string answer;      // the data set's
  std::string prediction;  // the model's, as generated, without surrounding blanks
  bool correct = false;
  // Logit of the right answer's first token minus that of the best other option; nothing when the
  // item has no other option with another first token.
  std::optional<double> margin;
  std::int64_t tokens = 0;          // of the prediction, without the end token
  std::vector<std::string> images;  // as the data set names them
  // The options whose first tokens differ, and their logits at the first answer position.
  std::vector<std::string> options;
  std::vector<float> option_logits;
};

// A share with its 95 % Wilson score interval.
struct Share {
  std::int64_t count = 0, total = 0;
  double value = 0.0, low = 0.0, high = 0.0;
};

// What was run and on what, so that a comparison months later knows. Hashes are of contents.
struct ReportIdentity {
  std::string model_sha256;  // of all files of the model folder
  std::string data_sha256;   // of the file of questions and of the images that were used
  std::string tool;          // "qvlm 0.1.0"
  std::string cpu;           // "AMD EPYC, avx512vnni": its name and the best level it has
  std::string cpu_level;     // of the kernels that ran
  int threads = 0;
};

// Speed as a multiple of the same model's float execution, which ran in turns with it in the same
// process; above 1 is faster. One number a round.
struct SpeedReport {
  std::vector<double> prefill;  // one image and its question
  std::vector<double> decode;   // the tokens behind them
};

struct Report {
  std::string model;      // folder
  std::string execution;  // "packed", "simulated", "float"
  std::string kv_cache;   // "float32", "bf16", "int8", "int4"
  std::string data;       // folder
  std::string protocol;   // how answers were scored: "exact", "sqa-lmms"
  std::int64_t max_new_tokens = 0;
  std::vector<ItemResult> items;  // in the data set's order
  // What multiplied: linears by what their product really did, {"integer": 84, "float": 49}.
  std::map<std::string, std::int64_t> products;
  ReportIdentity identity;            // hashes are empty where EvaluateOptions does not ask
  std::optional<SpeedReport> speed;   // where EvaluateOptions asks and there is the memory
  std::int64_t checkpoint_bytes = 0;  // of the weight files
  std::int64_t weight_bytes = 0;      // of the weights in memory, as computed
  std::int64_t kv_bytes = 0;          // of one position in the KV cache
  double load_seconds = 0.0;
  double seconds = 0.0;                // running the items
  std::int64_t peak_memory_bytes = 0;  // of the process, highest resident set
  // Safetensors file with "logits", float32 [items, vocab]: at the first answer position. May be
  // empty.
  std::filesystem::path logits_file;
  std::string logits_sha256;  // of that file as it was written: a later run may have replaced it

  Share accuracy() const;
  std::vector<std::pair<std::string, Share>> accuracy_by_category() const;  // in name order

  // JSON. A logits file below the report's folder is remembered relative to it, so that the two can
  // move together. Throw kNotFound, kCorrupt, kIo.
  static Report load(const std::filesystem::path& file);
  void save(const std::filesystem::path& file) const;
};

struct EvaluateOptions {
  Execution execution = Execution::kPacked;
  std::optional<KvFormat> kv_cache = {};    // nothing: as the checkpoint asks for, else float32
  std::filesystem::path packed_cache = {};  // see SessionOptions
  std::int64_t items = 0;                   // the first so many; 0: all
  std::int64_t max_new_tokens = 8;
  std::filesystem::path logits_file = {};  // empty: logits are not kept
  bool hashes = false;                     // fill the hashes of Report::identity
  // Fill Report::speed, behind the questions and once peak memory has been read. It loads the model
  // a second time, in float; where memory is too small for that, it is left out with a warning. It
  // takes half a minute at most, or six prompts of a model that is slower than that: minutes at 7B.
  bool speed = false;
  // A report that the result will be compared with: what compare() would refuse is refused before
  // the model is loaded, as is a logits file that would replace the reference's. Not owned.
  const Report* reference = nullptr;
};

// Runs the questions of a data folder greedily, several images at once; results do not depend on
// the number of threads. An answer ends at the model's last position. `progress` may be called from
// any thread, one call at a time; what it throws ends the run. Throws what reading data, images and
// model throws, before the model is loaded where it can.
Report evaluate(const std::filesystem::path& model,
                const std::filesystem::path& data,
                const EvaluateOptions& options = {},
                const ProgressCallback& progress = {});

// How `result` differs from `reference` on the same items.
struct Comparison {
  Share agreement;         // same prediction
  std::int64_t lost = 0;   // right in the reference, wrong here
  std::int64_t won = 0;    // wrong in the reference, right here
  double mcnemar_p = 1.0;  // exact, two-sided
  // KL(reference || result) at the first answer position, natural logarithm; nothing when one side
  // kept no logits or the vocabularies differ in size.
  std::optional<double> kl_mean;
  std::optional<double> kl_median;
  std::optional<double> kl_trimmed_mean;  // without the highest 1 %
  // Mean of result's margin minus reference's, over the items that have both.
  std::optional<double> margin_change;
};

// Throws kInvalidArgument when the two did not run the same items or differ in protocol or
// max_new_tokens, kNotFound or kCorrupt when a logits file that a report names cannot be read or
// was replaced by another run.
Comparison compare(const Report& result, const Report& reference);

}  // namespace qvlm
