// What `qvlm bench` found out, as a table and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/bench_variants.h"
#include "cli/commands.h"
#include "model/memory_plan.h"

namespace qvlm::cli {

// One round of one variant. "Other" is the part of a stage outside the products of linears.
struct BenchSample {
  double load_seconds = 0.0, image_seconds = 0.0;
  double prefill_seconds = 0.0, prefill_other_seconds = 0.0;
  double decode_seconds = 0.0, decode_other_seconds = 0.0;
  // Resident set before loading, after decoding with the sequence alive, and its peak in between.
  std::int64_t memory_before = 0, memory_resident = 0, memory_peak = 0;
};

// One variant: the median of its rounds, member by member.
struct BenchRow {
  std::string name;
  std::string arithmetic;  // "integer 83 %, float 17 %" of the weights
  MemoryPlan plan;
  std::string left_out;  // why it was not run; empty: it was
  BenchSample median;
};

struct BenchResult {
  std::int64_t prompt_tokens = 0;
  KvFormat kv_cache = KvFormat::kFloat32;
  std::vector<BenchRow> rows;
  std::vector<std::string> left_out;  // recipes that do not fit
};

// Member by member. REQUIRES: not empty.
BenchSample median_of(const std::vector<BenchSample>& samples);

// How the weights of a variant are multiplied, by share of their number.
std::string describe_arithmetic(const ModelConfig& config, const Variant& variant);

Json to_json(const BenchCommand& command, const BenchResult& result);
std::string to_text(const BenchCommand& command, const BenchResult& result);

}  // namespace qvlm::cli
