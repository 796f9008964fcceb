// A data folder: data.jsonl, one question a line, an optional meta.json, and images beside them.
// Reads and checks everything but the pixels; how a question becomes a prompt and is scored is
// eval/protocol.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace qvlm {

enum class ItemType {
  kMultipleChoice,  // "mcq": `choices` are listed, a letter is asked for
  kVisualQuestion,  // "vqa": a single word or phrase is asked for
  kYesNo,           // "yesno"
  kOpen,            // "open": the question alone
};

enum class Protocol {
  kExact,          // "exact": the text is the answer; multiple choice also takes the letter
  kScienceQaLmms,  // "sqa-lmms": lmms-eval's scienceqa_img: the letter, or "X." at the start
};

struct Item {
  std::string id;
  std::vector<std::filesystem::path> images;  // complete paths; empty: a question without an image
  std::string question;
  std::string hint;
  std::vector<std::string> choices;
  std::string answer;            // as text; the choice's text where `choices` are given
  std::size_t right_choice = 0;  // place of the answer in `choices`; texts may repeat
  std::string category;
  ItemType type = ItemType::kOpen;
};

struct Dataset {
  std::filesystem::path folder;
  std::string name;
  std::string split;
  Protocol protocol = Protocol::kExact;
  std::string prompt;  // template of meta.json; empty: the one that belongs to the item's type
  std::vector<Item> items;

  // Throws kNotFound (no data.jsonl, a missing key, a missing image file) or kCorrupt (not JSON, a
  // wrong type, an unknown item type, a duplicate id, an answer that is no choice, a text that
  // would be taken for an image's place, no items); kUnsupported for an unknown protocol. The text
  // names file and line.
  static Dataset load(const std::filesystem::path& folder);
};

const char* protocol_name(Protocol protocol);

}  // namespace qvlm
