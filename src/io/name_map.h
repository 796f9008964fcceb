// Tensor names: the layouts found in checkpoints, and ours.
//
//   ours                          | file layouts, first match wins
//   vision_tower.<rest>           | vision_tower.vision_model. , model.vision_tower.vision_model. ,
//                                 | model.vision_tower. , vision_tower.
//   projector.<rest>              | multi_modal_projector. , model.multi_modal_projector.
//   decoder.<rest>                | language_model.model. , model.language_model. , language_model.
//   lm_head.<rest>                | language_model.lm_head. , lm_head.
//
// <rest> is the same everywhere: embeddings.patch_embedding.weight,
// layers.0.self_attn.q_proj.weight, ...
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

class NameMap {
 public:
  NameMap() = default;
  // Finds which layout a checkpoint uses from the names of its tensors.
  static NameMap detect(const std::vector<std::string>& file_names);

  // Our name -> name in the files. A name under none of the four parts is returned as it is.
  std::string to_file(std::string_view ours) const;
  // The same for a module: a name without its last part ("lm_head").
  std::string module_to_file(std::string_view ours) const;
  // Name in the files -> ours; a name of no known part is returned as it is.
  std::string to_ours(std::string_view file) const;

  // A module in every layout of the table above, for lists of names that another program wrote.
  static std::vector<std::string> all_module_spellings(std::string_view ours);

 private:
  std::string vision_, projector_, decoder_,
      head_;  // prefixes in the files, each with its final dot
};

}  // namespace qvlm
