// The logits beside a report: a safetensors file with one tensor, "logits", float32 [rows, vocab].
// Rows arrive in any order from any thread and never pile up in memory, so that a run's peak memory
// is the model's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "io/safetensors.h"

namespace qvlm {

class LogitsWriter {
 public:
  // Opens a nameless spool file beside `file`: a folder that cannot be written fails here, before
  // any work. Throws kIo.
  explicit LogitsWriter(const std::filesystem::path& file);
  ~LogitsWriter();
  LogitsWriter(const LogitsWriter&) = delete;
  LogitsWriter& operator=(const LogitsWriter&) = delete;

  // Stores one row; all rows have equal sizes. Safe to call from several threads for different
  // rows. Throws kIo.
  void write_row(std::int64_t row, std::span<const float> values);
  // Writes the final file atomically. REQUIRES: every row of [0, rows) was stored.
  void commit(std::int64_t rows, std::int64_t vocab);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
};

class LogitsFile {
 public:
  // Throws kNotFound, or kCorrupt (also when the tensor is missing or is not float32 [rows,
  // vocab]).
  explicit LogitsFile(const std::filesystem::path& file);

  std::int64_t rows() const { return rows_; }
  std::int64_t vocab() const { return vocab_; }
  std::span<const float> row(std::int64_t index) const;

 private:
  SafetensorsFile file_;
  const float* values_ = nullptr;
  std::int64_t rows_ = 0, vocab_ = 0;
};

}  // namespace qvlm
