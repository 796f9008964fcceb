#include "model/unit.h"

#include <functional>

#include "base/parallel.h"
#include "model/llama.h"
#include "model/projector.h"
#include "model/vit.h"
#include "model/vlm.h"

namespace qvlm {
namespace {

using SampleFunction = std::function<void(StreamedSample&)>;

void take_vision_state(StreamedSample& sample, at::Tensor state) {
  sample.hidden = state;
  sample.vision_states.push_back(std::move(state));
}

SampleFunction load_projector(const Weights& root, const ModelConfig& config) {
  return [projector = Projector(root.scope("projector"), config), config](StreamedSample& sample) {
    sample.hidden = sample.image = projector.forward(select_features(sample.vision_states, config));
    sample.vision_states.clear();
  };
}

SampleFunction load_token_embedding(const Weights& root, const ModelConfig& config) {
  const TextConfig& text = config.text;
  at::Tensor table = root.get("decoder.embed_tokens.weight", {text.vocab_size, text.hidden_size});
  return [table, image_token_id = config.image_token_id](StreamedSample& sample) {
    sample.hidden = table.index_select(0, at::tensor(sample.ids, at::kLong));
    std::vector<at::Tensor> images;
    if (sample.image.defined()) images.push_back(sample.image);
    place_image_tokens(sample.hidden, sample.ids, images, image_token_id);
    sample.image.reset();
  };
}

SampleFunction load_decoder_layer(const Unit& unit,
                                  const Weights& root,
                                  const ModelConfig& config) {
  return [layer = DecoderLayer(root.scope(unit.name), config.text),
          rope = Rope(config.text.rope, config.text.head_dim)](StreamedSample& sample) {
    sample.hidden = layer.forward(sample.hidden, rope.angles(0, sample.hidden.size(0)));
  };
}

SampleFunction load_unit(const Unit& unit, const Weights& root, const ModelConfig& config) {
  switch (unit.kind) {
    case UnitKind::kVisionEmbedding:
      return [embedding = VisionEmbedding(root.scope("vision_tower"), config.vision)](
                 StreamedSample& sample) {
        take_vision_state(sample, embedding.forward(sample.pixels));
      };
    case UnitKind::kVisionLayer:
      return [layer = VisionLayer(root.scope(unit.name), config.vision)](StreamedSample& sample) {
        take_vision_state(sample, layer.forward(sample.hidden));
      };
    case UnitKind::kProjector:
      return load_projector(root, config);
    case UnitKind::kTokenEmbedding:
      return load_token_embedding(root, config);
    case UnitKind::kDecoderLayer:
      return load_decoder_layer(unit, root, config);
    case UnitKind::kHead:
      return [head = Head(root, config)](StreamedSample& sample) {
        sample.hidden = head.forward(sample.hidden);
      };
  }
  return {};
}

}  // namespace

std::vector<Unit> list_units(const ModelConfig& config) {
  std::vector<Unit> units = {{UnitKind::kVisionEmbedding, 0, "vision_tower.embeddings"}};
  for (std::int64_t i = 0; i < needed_vision_layers(config); ++i) {
    units.push_back(
        {UnitKind::kVisionLayer, i, "vision_tower.encoder.layers." + std::to_string(i)});
  }
  units.push_back({UnitKind::kProjector, 0, "projector"});
  units.push_back({UnitKind::kTokenEmbedding, 0, "decoder.embed_tokens"});
  for (std::int64_t i = 0; i < config.text.layers; ++i) {
    units.push_back({UnitKind::kDecoderLayer, i, "decoder.layers." + std::to_string(i)});
  }
  units.push_back({UnitKind::kHead, 0, "lm_head"});
  return units;
}

std::vector<Unit> decoder_units(const ModelConfig& config) {
  std::vector<Unit> units = list_units(config);
  std::erase_if(units, [](const Unit& unit) { return unit.kind != UnitKind::kDecoderLayer; });
  return units;
}

void run_unit(const Unit& unit,
              const Weights& root,
              const ModelConfig& config,
              std::vector<StreamedSample>& samples) {
  const SampleFunction run = load_unit(unit, root, config);
  const bool sees_images = unit.kind == UnitKind::kVisionEmbedding ||
                           unit.kind == UnitKind::kVisionLayer || unit.kind == UnitKind::kProjector;
  for_each_apart(static_cast<std::int64_t>(samples.size()), [&](std::int64_t i) {
    StreamedSample& sample = samples[static_cast<std::size_t>(i)];
    if (!sees_images || sample.pixels.defined()) run(sample);
  });
}

}  // namespace qvlm
