// Asking a model the questions of a data set. The questions of one image are one piece of work. It
// runs on one thread with a Sequence of its own, so that its numbers depend neither on the other
// pieces nor on how many threads there are; the image is encoded once, and the prompts' common
// front (the image positions) is run once.
#pragma once

#include <qvlm/evaluate.h>

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "eval/dataset.h"
#include "eval/logits_file.h"
#include "eval/option_tokens.h"
#include "runtime/engine.h"

namespace qvlm {

// All arguments must live as long as the runner.
class QuestionRunner {
 public:
  // `logits` may be null.
  QuestionRunner(const Engine& engine,
                 const Dataset& dataset,
                 const EvaluateOptions& options,
                 LogitsWriter* logits);

  // Runs the first `count` items. Progress and errors: see evaluate().
  std::vector<ItemResult> run(std::size_t count, const ProgressCallback& progress);

 private:
  void run_group(const std::vector<std::size_t>& group, const ProgressCallback& progress);
  void count_item(const ProgressCallback& progress);
  std::int64_t answer_limit(const std::vector<std::int32_t>& prompt) const;
  ItemResult run_item(std::size_t index,
                      Sequence& sequence,
                      const std::vector<std::int32_t>& ids,
                      const std::vector<at::Tensor>& images);
  void note_options(std::size_t index, std::span<const float> logits, ItemResult& result) const;
  std::vector<std::int32_t> decode_greedily(Sequence& sequence,
                                            at::Tensor row,
                                            std::int64_t limit) const;

  const Engine& engine_;
  const Dataset& dataset_;
  const EvaluateOptions& options_;
  LogitsWriter* logits_;
  std::vector<ItemOptions> item_options_;
  std::vector<ItemResult> results_;
  std::mutex mutex_;
  std::int64_t done_ = 0;  // under mutex_
};

}  // namespace qvlm
