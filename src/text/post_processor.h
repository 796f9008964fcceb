// Post-processors: the ids that a tokenizer puts around a text, such as BOS. Read from the
// "post_processor" of a tokenizer.json: Sequence, TemplateProcessing and ByteLevel (which moves
// offsets only).
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace qvlm {

struct PostProcessor {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;

  // `component` may be null: nothing is added. Throws kUnsupported naming a type we do not compute.
  static PostProcessor parse(const Json& component);
};

}  // namespace qvlm
