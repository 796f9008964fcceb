// Whether a model folder is whole: its files against the checksums in qvlm.json, its tensors
// against what config.json asks for, its codes against their scheme, and a few forward passes.
//
//   qvlm::VerifyReport report = qvlm::verify("out/w4a8", {.against = "models/reference-llava"});
//   for (const qvlm::VerifyProblem& problem : report.problems)
//     std::cerr << problem.file << " " << problem.tensor << ": " << problem.problem << "\n";
//
// What each check looks at: docs/formats.md, "Verification".
#pragma once

#include <qvlm/quantize.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

// One thing that is wrong.
struct VerifyProblem {
  std::string file;    // its name in the folder; empty: no single file
  std::string tensor;  // its name in the files; empty: the file as a whole, or its header
  std::string problem;
};

// What one check did.
struct VerifyCheck {
  std::string name;           // "checksums of files", "forward passes" ...
  std::int64_t checked = 0;   // files, tensors, linears or passes, as the name says
  std::int64_t problems = 0;  // of these, what was found by this check
  std::string skipped;        // why it was not done; empty: it was
};

// A quantized linear beside the float model's.
struct VerifiedLinear {
  std::string name;                // ours: "decoder.layers.0.mlp.up_proj"
  std::string scheme;              // "w4 g128 a8"
  double relative_error = 0.0;     // |W_q - W|^2 / |W|^2
  std::optional<double> recorded;  // the same when it was quantized, where qvlm.json tells
};

struct VerifyReport {
  std::vector<VerifyCheck> checks;       // in the order in which they were done
  std::vector<VerifyProblem> problems;   // all that were found, likewise; empty: all is well
  std::vector<VerifiedLinear> linears;   // in data order; empty unless compared
  std::vector<std::string> replaced;     // tensors that qvlm.json lists as changed on purpose
  std::optional<double> run_difference;  // of packed from simulated logits: root of mean square
  std::optional<double> run_bound;       // what it may be at most; see docs/formats.md
  double seconds = 0.0;
};

struct VerifyOptions {
  std::filesystem::path against;  // the float model that the folder was made of; empty: none
  bool run = true;                // forward passes, which take the memory of a float model
};

// Looks at everything in the folder and reports all that is wrong, not only the first. A folder
// without qvlm.json is another program's and has no checksums; that check is skipped then.
// `progress` counts megabytes; what it throws ends the run. Throws kNotFound when there is no such
// folder; kUnsupported, kResource or kInternal when something else than damage keeps a check from
// being done; kInvalidArgument when `against` is quantized or another model; and what reading it
// throws. Safe to call from several threads at once.
VerifyReport verify(const std::filesystem::path& folder,
                    const VerifyOptions& options = {},
                    const ProgressCallback& progress = {});

}  // namespace qvlm
