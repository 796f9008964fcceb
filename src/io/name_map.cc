#include "io/name_map.h"

#include <algorithm>
#include <array>

namespace qvlm {
namespace {

constexpr std::string_view kVision = "vision_tower.";
constexpr std::string_view kProjector = "projector.";
constexpr std::string_view kDecoder = "decoder.";
constexpr std::string_view kHead = "lm_head.";

constexpr std::array<std::string_view, 4> kVisionLayouts = {"vision_tower.vision_model.",
                                                            "model.vision_tower.vision_model.",
                                                            "model.vision_tower.", "vision_tower."};
constexpr std::array<std::string_view, 2> kProjectorLayouts = {"multi_modal_projector.",
                                                               "model.multi_modal_projector."};
constexpr std::array<std::string_view, 3> kDecoderLayouts = {
    "language_model.model.", "model.language_model.", "language_model."};
constexpr std::array<std::string_view, 2> kHeadLayouts = {"language_model.lm_head.", "lm_head."};

// The first prefix that some name has; `otherwise` when none has any.
template <std::size_t N>
std::string find_layout(const std::array<std::string_view, N>& layouts,
                        const std::vector<std::string>& names,
                        std::string_view otherwise) {
  for (const std::string_view layout : layouts) {
    const auto matches = [&](const std::string& name) { return name.starts_with(layout); };
    if (std::any_of(names.begin(), names.end(), matches)) return std::string(layout);
  }
  return std::string(otherwise);
}

std::string replace_prefix(std::string_view name, std::string_view from, std::string_view to) {
  return std::string(to) + std::string(name.substr(from.size()));
}

}  // namespace

NameMap NameMap::detect(const std::vector<std::string>& file_names) {
  // The head's name must not decide the decoder's: "language_model." is a prefix of both.
  std::vector<std::string> rest;
  for (const std::string& name : file_names) {
    if (!name.starts_with(kHeadLayouts[0])) rest.push_back(name);
  }
  NameMap map;
  map.vision_ = find_layout(kVisionLayouts, file_names, kVisionLayouts[0]);
  map.projector_ = find_layout(kProjectorLayouts, file_names, kProjectorLayouts[0]);
  map.decoder_ = find_layout(kDecoderLayouts, rest, kDecoderLayouts[0]);
  // A tied head is in no file; its name follows the decoder's layout.
  const bool nested = map.decoder_ == kDecoderLayouts[0];
  map.head_ = find_layout(kHeadLayouts, file_names, nested ? kHeadLayouts[0] : kHeadLayouts[1]);
  return map;
}

std::string NameMap::to_file(std::string_view ours) const {
  if (ours.starts_with(kVision)) return replace_prefix(ours, kVision, vision_);
  if (ours.starts_with(kProjector)) return replace_prefix(ours, kProjector, projector_);
  if (ours.starts_with(kDecoder)) return replace_prefix(ours, kDecoder, decoder_);
  if (ours.starts_with(kHead)) return replace_prefix(ours, kHead, head_);
  return std::string(ours);
}

std::string NameMap::to_ours(std::string_view file) const {
  // The head first: the decoder's prefix may be the first half of the head's.
  if (!head_.empty() && file.starts_with(head_)) return replace_prefix(file, head_, kHead);
  if (!vision_.empty() && file.starts_with(vision_)) return replace_prefix(file, vision_, kVision);
  if (!projector_.empty() && file.starts_with(projector_)) {
    return replace_prefix(file, projector_, kProjector);
  }
  if (!decoder_.empty() && file.starts_with(decoder_)) {
    return replace_prefix(file, decoder_, kDecoder);
  }
  return std::string(file);
}

std::string NameMap::module_to_file(std::string_view ours) const {
  std::string name = to_file(std::string(ours) + ".");
  name.pop_back();
  return name;
}

std::vector<std::string> NameMap::all_module_spellings(std::string_view ours) {
  const std::string prefix = std::string(ours) + ".";
  std::vector<std::string> names;
  const auto add = [&](std::string_view part, const auto& layouts) {
    if (!prefix.starts_with(part)) return;
    for (const std::string_view layout : layouts) {
      names.push_back(replace_prefix(prefix, part, layout));
      names.back().pop_back();
    }
  };
  add(kVision, kVisionLayouts);
  add(kProjector, kProjectorLayouts);
  add(kDecoder, kDecoderLayouts);
  add(kHead, kHeadLayouts);
  return names;
}

}  // namespace qvlm
