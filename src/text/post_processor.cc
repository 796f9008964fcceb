#include "text/post_processor.h"

#include <utility>

#include "base/error.h"

namespace qvlm {
namespace {

// The template of one text: special tokens around the sequence A.
PostProcessor parse_template(const Json& component) {
  PostProcessor processor;
  const Json specials = component.get("special_tokens");
  bool seen = false;
  component.get("single").for_each([&](const std::string&, const Json& piece) {
    if (piece.contains("SpecialToken")) {
      const Json special = specials.get(piece.get("SpecialToken").get_string("id"));
      auto& side = seen ? processor.after : processor.before;
      for (const std::int64_t id : special.get("ids").as_ints()) {
        require(id >= 0 && std::in_range<std::int32_t>(id), ErrorKind::kCorrupt, special.where(),
                ": the id ", id);
        side.push_back(static_cast<std::int32_t>(id));
      }
      return;
    }
    const std::string sequence = piece.get("Sequence").get_string("id");
    require(sequence == "A" && !seen, ErrorKind::kUnsupported, piece.where(),
            ": a template other than one sequence A");
    seen = true;
  });
  require(seen, ErrorKind::kUnsupported, component.where(), ": a template without the sequence A");
  return processor;
}

}  // namespace

PostProcessor PostProcessor::parse(const Json& component) {
  if (component.is_null()) return {};
  const std::string type = component.get_string("type");
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return parse_template(component);
  require(type == "Sequence", ErrorKind::kUnsupported, component.where(), ": the post-processor '",
          type, "'");
  PostProcessor all;
  component.get("processors").for_each([&](const std::string&, const Json& step) {
    const PostProcessor one = parse(step);  // goes around what there is
    all.before.insert(all.before.begin(), one.before.begin(), one.before.end());
    all.after.insert(all.after.end(), one.after.begin(), one.after.end());
  });
  return all;
}

}  // namespace qvlm
