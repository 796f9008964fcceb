#include "eval/option_tokens.h"

#include <algorithm>
#include <map>

#include "eval/protocol.h"
#include "text/chat_template.h"

namespace qvlm {
namespace {

// The first token an option adds to a prompt: where encode(prompt + " " + option) departs from
// encode(prompt). Every prompt ends in the same words (the assistant's mark), so a short one stands
// for all.
class FirstTokens {
 public:
  explicit FirstTokens(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), base_(tokenizer.encode(prompt_, true)) {}

  std::optional<std::int32_t> of(const std::string& option) {
    const auto [place, is_new] = known_.try_emplace(option);
    if (is_new) place->second = find(option);
    return place->second;
  }

 private:
  std::optional<std::int32_t> find(const std::string& option) const {
    const std::vector<std::int32_t> ids = tokenizer_.encode(prompt_ + " " + option, true);
    const auto departed = std::mismatch(base_.begin(), base_.end(), ids.begin(), ids.end()).second;
    return departed == ids.end() ? std::nullopt : std::optional(*departed);
  }

  const Tokenizer& tokenizer_;
  const std::string prompt_ = render_llava_prompt({Turn{Role::kUser, "?", 0}});
  std::vector<std::int32_t> base_;
  std::map<std::string, std::optional<std::int32_t>> known_;
};

}  // namespace

std::vector<ItemOptions> find_option_tokens(const Dataset& dataset, const Tokenizer& tokenizer) {
  FirstTokens tokens(tokenizer);
  std::vector<ItemOptions> result;
  for (const Options& options : make_options(dataset)) {
    ItemOptions item;
    item.right = tokens.of(options.right);
    for (const std::string& option : options.all) {
      const auto id = tokens.of(option);
      if (!id || (id == item.right && option != options.right)) continue;
      if (std::ranges::find(item.ids, *id) != item.ids.end()) continue;
      item.names.push_back(option);
      item.ids.push_back(*id);
    }
    result.push_back(std::move(item));
  }
  return result;
}

}  // namespace qvlm
