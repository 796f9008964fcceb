#include "text/chat_template.h"

#include "text/golden.h"

namespace qvlm {
namespace {

Turn turn_of(const Json& json) {
  const std::string role = json.get_string("role");
  const Role who = role == "user"     ? Role::kUser
                   : role == "system" ? Role::kSystem
                                      : Role::kAssistant;
  return {who, json.get_string("text"), static_cast<int>(json.get_int("images"))};
}

TEST(ChatTemplate, RendersLlavaAsTransformersDoes) {
  load_golden("chat_llava").get("chats").for_each([](const std::string&, const Json& chat) {
    std::vector<Turn> turns;
    chat.get("turns").for_each(
        [&](const std::string&, const Json& turn) { turns.push_back(turn_of(turn)); });
    EXPECT_EQ(render_llava_prompt(turns), chat.get_string("prompt"));
  });
}

}  // namespace
}  // namespace qvlm
