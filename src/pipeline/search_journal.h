// What a search has finished, on disk after every smoothed layer, every block and every epoch of
// the vision encoder, so that a run that was stopped or killed goes on from there. It holds
// choices, not activations: a resumed run computes the states behind them again, which takes a few
// forwards a layer where the search took dozens, and rounds finished blocks again. The same bits
// come out, whatever the number of threads.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "pipeline/search_json.h"
#include "search/candidates.h"

namespace qvlm {

struct FinishedBlock {
  BlockReport report;
  std::vector<Setting> settings;  // one a layer
};

class SearchJournal {
 public:
  // file: "<out>.search.json", written with the first thing that is finished. run: what makes two
  // runs the same. Reads what is there when `resume`.
  // Throws kInvalidArgument if the file is there and neither `resume` nor `overwrite` is set, or if
  // it is of another run; kCorrupt for a damaged one.
  SearchJournal(std::filesystem::path file, std::string run, bool resume, bool overwrite);

  const std::string& run() const { return run_; }
  // What smoothing searched for this decoder layer, counted through all smoothings of the recipe
  // that search; or null.
  const Alphas* find_alphas(std::int64_t layer) const;
  const std::vector<Alphas>& alphas() const { return alphas_; }
  const std::optional<BlockPlan>& plan() const { return plan_; }
  const std::vector<double>& entropy() const { return entropy_; }
  // What mixed precision measured, by parts of the samples: AnswerChanges, see precision_run.cc.
  const std::vector<std::vector<std::vector<double>>>& precision() const { return precision_; }
  // Null: not begun. Else a state between epochs or the outcome, as pipeline/vision_run.cc has it.
  const Json& vision() const { return vision_; }
  // The finished block that begins with this layer, or null.
  const FinishedBlock* find_block(std::int64_t first) const;

  // Each writes the file anew, flushed to disk.
  void add_alphas(const Alphas& alphas);
  void set_vision(const Json& vision);
  void set_plan(const BlockPlan& plan, const std::vector<double>& entropy);
  void add_precision(const std::vector<std::vector<double>>& changes);
  void add_block(const FinishedBlock& block);
  // Deletes the file: the result is written.
  void remove();

 private:
  void read();
  void write() const;

  std::filesystem::path file_;
  std::string run_;
  std::vector<Alphas> alphas_;
  Json vision_;
  std::optional<BlockPlan> plan_;
  std::vector<double> entropy_;
  std::vector<std::vector<std::vector<double>>> precision_;
  std::vector<FinishedBlock> blocks_;
};

}  // namespace qvlm
