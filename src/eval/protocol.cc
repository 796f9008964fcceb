#include "eval/protocol.h"

#include <algorithm>
#include <map>
#include <set>

namespace qvlm {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

// The prompts of lmms-eval's scienceqa_img (mcq) and of LLaVA's short-answer sets (vqa).
std::string_view standard_prompt(ItemType type) {
  switch (type) {
    case ItemType::kMultipleChoice:
      return "{hint}{question}\n{options}\nAnswer with the option's letter from the given choices "
             "directly.";
    case ItemType::kVisualQuestion:
      return "{hint}{question}\nAnswer the question using a single word or phrase.";
    case ItemType::kYesNo:
    case ItemType::kOpen:
      return "{hint}{question}";
  }
  return "";
}

std::string prompt_template(const Dataset& dataset, const Item& item) {
  return dataset.prompt.empty() ? std::string(standard_prompt(item.type)) : dataset.prompt;
}

// A prompt that lists lettered options asks for a letter, any other for the text.
bool asks_for_letter(const Dataset& dataset, const Item& item) {
  return !item.choices.empty() &&
         prompt_template(dataset, item).find("{options}") != std::string::npos;
}

std::string letter(std::size_t index) {
  return std::string(1, static_cast<char>('A' + index));
}

std::string list_options(const std::vector<std::string>& choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    text += (i == 0 ? "" : "\n") + letter(i) + ". " + choices[i];
  }
  return text;
}

std::string right_letter(const Item& item) {
  return letter(item.right_choice);
}

char lower(char character) {
  return character >= 'A' && character <= 'Z' ? static_cast<char>(character - 'A' + 'a')
                                              : character;
}

}  // namespace

std::string make_question(const Dataset& dataset, const Item& item) {
  const std::map<std::string_view, std::string> values = {
      {"{question}", item.question},
      {"{hint}", item.hint.empty() ? "" : "Context: " + item.hint + "\n"},
      {"{options}", list_options(item.choices)},
  };
  // One pass over the template, so that braces in a question are never taken for a placeholder.
  const std::string text = prompt_template(dataset, item);
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const auto found = std::find_if(values.begin(), values.end(), [&](const auto& value) {
      return text.compare(at, value.first.size(), value.first) == 0;
    });
    result += found == values.end() ? text.substr(at, 1) : found->second;
    at += found == values.end() ? 1 : found->first.size();
  }
  return result;
}

std::string trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1));
}

std::string normalize_answer(std::string_view text) {
  std::string result = trim(text);
  if (!result.empty() && result.back() == '.') result = trim(result.substr(0, result.size() - 1));
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

bool is_correct(const Dataset& dataset, const Item& item, std::string_view prediction) {
  const bool lettered = asks_for_letter(dataset, item);
  if (dataset.protocol == Protocol::kScienceQaLmms && lettered) {
    const std::string text = trim(prediction);
    const std::string right = right_letter(item);
    return text == right || text.starts_with(right + ".");
  }
  const std::string text = normalize_answer(prediction);
  return text == normalize_answer(item.answer) ||
         (lettered && text == normalize_answer(right_letter(item)));
}

std::vector<Options> make_options(const Dataset& dataset) {
  std::map<std::string, std::set<std::string>> answers;  // by category
  for (const Item& item : dataset.items)
    answers[item.category].insert(item.answer);
  std::vector<Options> result;
  for (const Item& item : dataset.items) {
    Options options{item.answer, item.choices};
    if (asks_for_letter(dataset, item)) {
      options.right = right_letter(item);
      for (std::size_t i = 0; i < options.all.size(); ++i)
        options.all[i] = letter(i);
    } else if (item.choices.empty() && item.type == ItemType::kYesNo) {
      options.all = {"yes", "no"};
    } else if (item.choices.empty()) {
      options.all.assign(answers[item.category].begin(), answers[item.category].end());
    }
    result.push_back(std::move(options));
  }
  return result;
}

}  // namespace qvlm
