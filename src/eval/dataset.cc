#include "eval/dataset.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "model/prompt_encoder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

ItemType read_type(const Json& line) {
  const std::string name = line.get_string("type");
  if (name == "mcq") return ItemType::kMultipleChoice;
  if (name == "vqa") return ItemType::kVisualQuestion;
  if (name == "yesno") return ItemType::kYesNo;
  if (name == "open") return ItemType::kOpen;
  fail(ErrorKind::kCorrupt, line.where(), ": type: expected mcq, vqa, yesno or open, got '", name,
       "'");
}

// Which choice an answer means: its index from 0, its text, or its letter. Text comes first, so
// that a choice called "B" is found by its text.
std::size_t find_choice(const Json& answer, const std::vector<std::string>& choices) {
  if (answer.is_int()) {
    const std::int64_t index = answer.as_int();
    if (index >= 0 && index < static_cast<std::int64_t>(choices.size()))
      return static_cast<std::size_t>(index);
  } else {
    const std::string text = answer.as_string();
    const auto found = std::find(choices.begin(), choices.end(), text);
    if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
    const auto letter = text.size() == 1 ? static_cast<std::size_t>(text[0] - 'A') : choices.size();
    if (letter < choices.size()) return letter;
  }
  fail(ErrorKind::kCorrupt, answer.where(),
       ": expected the index, the letter or the text of one of the ", choices.size(),
       " choices, got ", answer.dump());
}

Item read_item(const Json& line, const fs::path& folder) {
  Item item;
  item.id = line.get_string("id");
  item.type = read_type(line);
  item.images = line.get("image").as_files(folder);
  item.question = line.get_string("question");
  item.hint = line.get_string("hint", "");
  item.category = line.get_string("category", "");
  const Json choices = line.find("choices");
  if (!choices.is_null()) item.choices = choices.as_strings();
  const bool needs_choices = item.type == ItemType::kMultipleChoice;
  require(!needs_choices || item.choices.size() >= 2, ErrorKind::kCorrupt, line.where(),
          ": choices: an item of type mcq needs at least two, got ", item.choices.size());
  require(item.choices.size() <= 26, ErrorKind::kCorrupt, line.where(),
          ": choices: there are letters for 26, got ", item.choices.size());
  const Json answer = line.get("answer");
  if (item.choices.empty()) {
    item.answer = answer.as_string();
  } else {
    item.right_choice = find_choice(answer, item.choices);
    item.answer = item.choices[item.right_choice];
  }
  refuse_image_token(item.question, line.where(), "question");
  refuse_image_token(item.hint, line.where(), "hint");
  for (const std::string& choice : item.choices)
    refuse_image_token(choice, line.where(), "choice");
  return item;
}

// The values of meta.json, all optional.
void read_meta(const fs::path& file, Dataset& dataset) {
  if (!fs::exists(file)) return;
  const Json meta = Json::load(file);
  require(meta.is_object(), ErrorKind::kCorrupt, meta.where(), ": expected an object");
  dataset.name = meta.get_string("name", dataset.name);
  dataset.split = meta.get_string("split", "");
  dataset.prompt = meta.get_string("prompt", "");
  const std::string protocol = meta.get_string("protocol", "exact");
  require(protocol == "exact" || protocol == "sqa-lmms", ErrorKind::kUnsupported, meta.where(),
          ": protocol: expected exact or sqa-lmms, got '", protocol, "'");
  dataset.protocol = protocol == "exact" ? Protocol::kExact : Protocol::kScienceQaLmms;
  const bool asks =
      dataset.prompt.empty() || dataset.prompt.find("{question}") != std::string::npos;
  require(asks, ErrorKind::kCorrupt, meta.where(), ": prompt: {question} is missing");
  refuse_image_token(dataset.prompt, meta.where(), "prompt");
}

}  // namespace

Dataset Dataset::load(const fs::path& folder) {
  Dataset dataset;
  dataset.folder = folder;
  dataset.name = fs::absolute(folder / "").parent_path().filename().string();
  read_meta(folder / "meta.json", dataset);
  const fs::path file = folder / "data.jsonl";
  std::set<std::string> ids;
  for_each_json_line(file, [&](const Json& line) {
    dataset.items.push_back(read_item(line, folder));
    const std::string& id = dataset.items.back().id;
    require(ids.insert(id).second, ErrorKind::kCorrupt, line.where(), ": the id '", id,
            "' was there before");
  });
  require(!dataset.items.empty(), ErrorKind::kCorrupt, file.string(), ": there is no item in it");
  return dataset;
}

const char* protocol_name(Protocol protocol) {
  return protocol == Protocol::kExact ? "exact" : "sqa-lmms";
}

}  // namespace qvlm
