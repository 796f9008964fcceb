// Quantization after training: a Hugging Face folder in, a compressed-tensors folder out.
#pragma once

#include <qvlm/recipe.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace qvlm {

// What one linear became.
struct LinearReport {
  std::string name;
  std::int64_t out = 0, in = 0;
  std::string scheme;           // "w4 g128 a8", "float"
  double relative_error = 0.0;  // |W_q - W|^2 / |W|^2; 0 for float
};

struct QuantizeReport {
  std::vector<LinearReport> linears;
  std::int64_t source_bytes = 0;  // of the weight files
  std::int64_t result_bytes = 0;
  double seconds = 0.0;
};

// Where a long run is: `done` of `total` units of work, and what is being worked on.
struct Progress {
  std::int64_t done = 0, total = 0;
  std::string what;
};
using ProgressCallback = std::function<void(const Progress&)>;

struct QuantizeOptions {
  bool overwrite = false;  // replace an existing output folder
};

// Quantizes every linear as the recipe says and writes `out` atomically: it appears complete or not
// at all. Weights are read, quantized and written one by one. Throws kInvalidArgument (the recipe
// does not fit: a pattern that matches nothing, a group size that does not divide), kCorrupt (also:
// a weight that is not finite), kIo.
QuantizeReport quantize(const std::filesystem::path& model,
                        const std::filesystem::path& out,
                        const Recipe& recipe,
                        const QuantizeOptions& options = {},
                        const ProgressCallback& progress = {});

}  // namespace qvlm
