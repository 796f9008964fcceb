#include "calib/samples.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "model/prompt_encoder.h"

namespace qvlm {
namespace {

std::optional<std::int32_t> find_end_token(const Checkpoint& checkpoint, const TextConfig& config) {
  const std::vector<std::int64_t> ends = load_generation_config(checkpoint).eos_token_ids;
  if (ends.empty()) return std::nullopt;
  require(ends.front() >= 0 && ends.front() < config.vocab_size, ErrorKind::kCorrupt,
          checkpoint.folder().string(), ": eos_token_id: expected one of ", config.vocab_size,
          " ids, got ", ends.front());
  return static_cast<std::int32_t>(ends.front());
}

// answer: where the answer's ids begin.
std::vector<TokenKind> find_kinds(const std::vector<std::int32_t>& ids,
                                  std::ptrdiff_t answer,
                                  std::int64_t image_token_id) {
  std::vector<TokenKind> kinds(ids.size(), TokenKind::kText);
  std::fill(kinds.begin() + answer, kinds.end(), TokenKind::kAnswer);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] == image_token_id) kinds[i] = TokenKind::kImage;
  return kinds;
}

class SampleReader {
 public:
  explicit SampleReader(const Checkpoint& checkpoint)
      : encoder_(PromptEncoder::load(checkpoint)),
        end_(find_end_token(checkpoint, encoder_.config().text)) {}

  void read(const CalibrationItem& item, CalibrationSamples& into) const {
    require(item.images.size() <= 1, ErrorKind::kUnsupported,
            "calibration takes one image an item, got ", item.images.size());
    const std::vector<std::int32_t> prompt = encoder_.encode(item.turns);
    StreamedSample sample;
    std::vector<std::int32_t>& ids = sample.ids;
    ids = encoder_.encode(item.turns, item.answer);
    const auto departed = std::mismatch(prompt.begin(), prompt.end(), ids.begin(), ids.end());
    const std::ptrdiff_t answer = departed.second - ids.begin();
    if (end_) ids.push_back(*end_);
    const ModelConfig& config = encoder_.config();
    require(static_cast<std::int64_t>(ids.size()) <= config.text.max_positions,
            ErrorKind::kInvalidArgument, "the conversation takes ", ids.size(),
            " positions, the model has ", config.text.max_positions);
    if (!item.images.empty()) sample.pixels = encoder_.pixels(Image::load(item.images.front()));
    into.kinds.push_back(find_kinds(ids, answer, config.image_token_id));
    into.samples.push_back(std::move(sample));
  }

 private:
  PromptEncoder encoder_;
  std::optional<std::int32_t> end_;
};

}  // namespace

CalibrationSamples load_samples(const std::filesystem::path& model,
                                const std::vector<CalibrationItem>& items) {
  const SampleReader reader(Checkpoint::open(model));
  CalibrationSamples samples;
  for (const CalibrationItem& item : items) {
    try {
      reader.read(item, samples);
    } catch (const Error& error) {
      fail(error.kind(), item.where, ": ", error.what());
    }
  }
  return samples;
}

CalibrationReport describe_samples(const CalibrationSamples& samples, const Manifest& manifest) {
  CalibrationReport report;
  report.samples = std::ssize(samples.samples);
  report.data_sha256 = manifest.sha256;
  for (const std::vector<TokenKind>& kinds : samples.kinds) {
    report.image_tokens += std::count(kinds.begin(), kinds.end(), TokenKind::kImage);
    report.text_tokens += std::count(kinds.begin(), kinds.end(), TokenKind::kText);
    report.answer_tokens += std::count(kinds.begin(), kinds.end(), TokenKind::kAnswer);
  }
  return report;
}

}  // namespace qvlm
