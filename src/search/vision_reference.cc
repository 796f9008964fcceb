#include "search/vision_reference.h"

#include "base/error.h"
#include "calib/entropy_grid.h"
#include "search/states.h"

namespace qvlm {
namespace {

at::Tensor to_places(const std::vector<std::int64_t>& places) {
  return at::tensor(places, at::kLong);
}

void describe_positions(const std::vector<std::int32_t>& ids,
                        const std::vector<TokenKind>& kinds,
                        std::int64_t image_token_id,
                        VisionSample& sample) {
  require(ids.size() == kinds.size(), ErrorKind::kInvalidArgument, "vision encoder: a sample has ",
          ids.size(), " positions and ", kinds.size(), " kinds");
  std::vector<std::int64_t> image, answer, before;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == image_token_id) image.push_back(static_cast<std::int64_t>(i));
    if (kinds[i] != TokenKind::kAnswer || i == 0) continue;
    answer.push_back(ids[i]);
    before.push_back(static_cast<std::int64_t>(i) - 1);
  }
  sample.image_positions = to_places(image);
  sample.answer_ids = to_places(answer);
  sample.before_answer = to_places(before);
}

States hidden_states(const std::vector<StreamedSample>& samples) {
  States states;
  for (const StreamedSample& sample : samples)
    states.push_back(sample.hidden);
  return states;
}

void set_each(at::Tensor VisionSample::*member,
              const std::vector<StreamedSample>& from,
              std::vector<VisionSample>& samples) {
  for (std::size_t i = 0; i < samples.size(); ++i)
    samples[i].*member = from[i].hidden;
}

// Keeps what the loss needs of the states behind a unit.
void keep(const Unit& unit,
          const std::vector<StreamedSample>& running,
          const VisionEncoderStudy& study,
          VisionReference& reference) {
  std::vector<VisionSample>& samples = reference.samples;
  if (unit.kind == UnitKind::kVisionEmbedding) set_each(&VisionSample::embedded, running, samples);
  if (unit.kind == UnitKind::kProjector) set_each(&VisionSample::images, running, samples);
  if (unit.kind == UnitKind::kTokenEmbedding) set_each(&VisionSample::inputs, running, samples);
  if (unit.kind != UnitKind::kDecoderLayer) return;
  if (study.options.entropy_weight != 0.0)
    reference.grids.push_back(make_entropy_grid(hidden_states(running), study.tau));
  if (unit.index + 1 == study.config.text.layers) set_each(&VisionSample::output, running, samples);
}

}  // namespace

bool needs_decoder(const VisionEncoderOptions& options) {
  return options.entropy_weight != 0.0 || options.answer_weight != 0.0 ||
         options.error_weight * options.output_weight != 0.0;
}

VisionReference run_reference(const VisionEncoderStudy& study) {
  require(study.samples.size() == study.kinds.size(), ErrorKind::kInvalidArgument,
          "vision encoder: ", study.samples.size(), " samples, but kinds of ", study.kinds.size());
  VisionReference reference;
  std::vector<StreamedSample> running;
  for (std::size_t i = 0; i < study.samples.size(); ++i) {
    const StreamedSample& sample = study.samples[i];
    if (!sample.pixels.defined()) continue;
    running.push_back(sample);
    reference.samples.emplace_back();
    describe_positions(sample.ids, study.kinds[i], study.config.image_token_id,
                       reference.samples.back());
  }
  require(!running.empty(), ErrorKind::kInvalidArgument,
          "vision encoder: no calibration sample has an image");
  const bool decoder = needs_decoder(study.options);
  for (const Unit& unit : list_units(study.config)) {
    const bool behind = unit.kind == UnitKind::kDecoderLayer;
    if (unit.kind == UnitKind::kHead || (behind && !decoder)) break;
    run_unit(unit, study.root, study.config, running);
    keep(unit, running, study, reference);
  }
  return reference;
}

}  // namespace qvlm
