// Prompts as a model's chat template renders them. One format per supported family, checked against
// transformers' rendering (tests/text/chat_template_test.cc); no Jinja.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

// Where an image goes in a rendered prompt.
inline constexpr std::string_view kImageToken = "<image>";

enum class Role { kSystem, kUser, kAssistant };

// One turn; its images come before its text, as the template has it.
struct Turn {
  Role role = Role::kUser;
  std::string text;
  int images = 0;
};

// LLaVA-1.5: "USER: <image>\n{text} ASSISTANT:" for one question, and so on for a dialogue that
// ends with the user. BOS is added by the tokenizer. An empty text is a turn without a text part:
// images only.
std::string render_llava_prompt(const std::vector<Turn>& turns);

}  // namespace qvlm
