#include "model/vlm.h"

#include "base/error.h"
#include "base/process_memory.h"

namespace qvlm {

Vlm::Vlm(const Weights& root, const ModelConfig& config)
    : config_(config),
      tower_(root.scope("vision_tower"), config),
      projector_(root.scope("projector"), config),
      decoder_(root, config) {}

Vlm Vlm::load(const Checkpoint& checkpoint,
              Execution execution,
              const std::filesystem::path& packed_cache) {
  const Weights weights(checkpoint, execution, packed_cache);
  Vlm model = load(weights, load_model_config(checkpoint));
  weights.save_cache();
  return model;
}

Vlm Vlm::load(const Weights& root, const ModelConfig& config) {
  Vlm model(root, config);
  return_freed_memory();  // what packing needed on the way
  return model;
}

at::Tensor Vlm::encode_image(const at::Tensor& pixels, const std::stop_token& cancel) const {
  return projector_.forward(tower_.forward(pixels, cancel));
}

at::Tensor Vlm::embed(const std::vector<std::int32_t>& ids,
                      const std::vector<at::Tensor>& images) const {
  at::Tensor embeddings = decoder_.embed(ids);
  place_image_tokens(embeddings, ids, images, config_.image_token_id);
  return embeddings;
}

void place_image_tokens(at::Tensor& embeddings,
                        const std::vector<std::int32_t>& ids,
                        const std::vector<at::Tensor>& images,
                        std::int64_t image_token_id) {
  std::vector<std::int64_t> positions;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == image_token_id) positions.push_back(static_cast<std::int64_t>(i));
  }
  std::int64_t rows = 0;
  for (const at::Tensor& image : images)
    rows += image.size(0);
  require(rows == static_cast<std::int64_t>(positions.size()), ErrorKind::kInvalidArgument,
          "the prompt has ", positions.size(), " image positions, the images give ", rows);
  if (rows > 0) embeddings.index_copy_(0, at::tensor(positions, at::kLong), at::cat(images));
}

}  // namespace qvlm
