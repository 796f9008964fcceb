// A tiny model, some samples and a quantized vision tower for tests of its optimization.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "model/linear_list.h"
#include "search/vision_encoder.h"
#include "support/golden.h"

namespace qvlm {

inline constexpr std::int64_t kAnswerTokens = 4;

struct TinyStudy {
  // name: a folder of tests/data/llava. Tower and projector are 4 bits, channels and tokens.
  explicit TinyStudy(const std::string& name, double clip = 1.0)
      : folder(std::filesystem::path(QVLM_TESTS_DIR) / "data" / "llava" / name),
        checkpoint(Checkpoint::open(folder)),
        config(load_model_config(checkpoint)),
        root(checkpoint, Execution::kFloat) {
    const Golden golden(folder / "golden.safetensors");
    at::manual_seed(3);
    for (int i = 0; i < 4; ++i) {
      const std::string prompt = "prompt" + std::to_string(i % 2) + ".";
      const at::Tensor pixels = golden.get(prompt + "pixel_values").clone();  // outlives the file
      samples.push_back({.pixels = i < 2 ? pixels : pixels + 0.5 * at::randn(pixels.sizes()),
                         .ids = golden.ids(prompt + "input_ids")});
      kinds.emplace_back(samples.back().ids.size(), TokenKind::kText);
      std::fill(kinds.back().end() - kAnswerTokens, kinds.back().end(), TokenKind::kAnswer);
    }
    const Scheme weight{.bits = 4, .granularity = Granularity::kChannel, .clip_ratio = clip};
    const Scheme activation{
        .bits = 4, .granularity = Granularity::kToken, .dynamic = true, .clip_ratio = clip};
    for (const LinearShape& linear : list_linears(config)) {
      if (linear.name.starts_with("vision_tower.") || linear.name.starts_with("projector."))
        schemes[linear.name] = {weight, activation, {}};
    }
  }

  VisionEncoderStudy with(const VisionEncoderOptions& options) const {
    return {root, config, schemes, samples, kinds, options, 0.25, {}};
  }

  std::filesystem::path folder;
  Checkpoint checkpoint;
  ModelConfig config;
  Weights root;
  LinearSchemes schemes;
  std::vector<StreamedSample> samples;
  std::vector<std::vector<TokenKind>> kinds;
};

inline const Batch kAllSamples = {0, 1, 2, 3};

// A loss without terms, for one epoch: tests switch on what they are about.
inline VisionEncoderOptions no_terms() {
  VisionEncoderOptions options;
  options.entropy_weight = options.error_weight = options.answer_weight = 0.0;
  options.epochs = 1;
  options.held_out = false;
  return options;
}

}  // namespace qvlm
