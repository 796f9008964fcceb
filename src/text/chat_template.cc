#include "text/chat_template.h"

namespace qvlm {

std::string render_llava_prompt(const std::vector<Turn>& turns) {
  std::string prompt;
  for (const Turn& turn : turns) {
    if (turn.role == Role::kUser) prompt += "USER: ";
    if (turn.role == Role::kAssistant) prompt += "ASSISTANT: ";
    for (int i = 0; i < turn.images; ++i)
      prompt.append(kImageToken) += "\n";
    if (!turn.text.empty()) prompt += turn.text + " ";
  }
  return prompt + "ASSISTANT:";
}

}  // namespace qvlm
