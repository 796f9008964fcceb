#include "calib/manifest.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "io/sha256.h"
#include "model/prompt_encoder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

// Turns of an item, the assistant's answer at the end included.
std::vector<Turn> read_turns(const Json& list) {
  require(list.is_array(), ErrorKind::kCorrupt, list.where(), ": expected an array of turns");
  std::vector<Turn> turns;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Json node = list.at(i);
    const bool user = i % 2 == 0;
    const std::string role = node.get_string("role");
    require(role == (user ? "user" : "assistant"), ErrorKind::kCorrupt, node.where(),
            ".role: turns alternate and the user begins: expected ", user ? "user" : "assistant",
            ", got '", role, "'");
    turns.push_back({user ? Role::kUser : Role::kAssistant, node.get_string("text"), 0});
    refuse_image_token(turns.back().text, node.where(), "text");
  }
  require(!turns.empty() && turns.back().role == Role::kAssistant, ErrorKind::kCorrupt,
          list.where(), ": expected the assistant's answer at the end, got ", turns.size(),
          " turns");
  return turns;
}

std::vector<Turn> read_question(const Json& line) {
  std::vector<Turn> turns = {{Role::kUser, line.get_string("question"), 0},
                             {Role::kAssistant, line.get_string("answer"), 0}};
  refuse_image_token(turns.front().text, line.where(), "question");
  refuse_image_token(turns.back().text, line.where(), "answer");
  return turns;
}

CalibrationItem read_item(const Json& line, const fs::path& folder) {
  CalibrationItem item;
  item.where = line.where();
  item.images = line.get("image").as_files(folder);
  const Json turns = line.find("turns");
  require(turns.is_null() != line.find("question").is_null(), ErrorKind::kCorrupt, item.where,
          ": expected either question and answer or turns, got ",
          turns.is_null() ? "neither" : "both");
  item.turns = turns.is_null() ? read_question(line) : read_turns(turns);
  item.answer = item.turns.back().text;
  require(!item.answer.empty(), ErrorKind::kCorrupt, item.where, ": the answer is empty");
  item.turns.pop_back();
  item.turns.front().images = static_cast<int>(item.images.size());
  return item;
}

std::string hash_data(const Manifest& manifest) {
  std::map<fs::path, std::string> known;  // many items may look at one image
  std::string lines = sha256_file(manifest.file) + "\n";
  for (const CalibrationItem& item : manifest.items) {
    for (const fs::path& image : item.images) {
      std::string& digest = known[image];
      if (digest.empty()) digest = sha256_file(image);
      lines += digest + "\n";
    }
  }
  return sha256(lines);
}

}  // namespace

Manifest Manifest::load(const fs::path& data) {
  Manifest manifest;
  manifest.file = fs::is_directory(data) ? data / "data.jsonl" : data;
  const fs::path folder = manifest.file.parent_path();
  for_each_json_line(manifest.file,
                     [&](const Json& line) { manifest.items.push_back(read_item(line, folder)); });
  require(!manifest.items.empty(), ErrorKind::kCorrupt, manifest.file.string(),
          ": there is no item in it");
  manifest.sha256 = hash_data(manifest);
  return manifest;
}

// The first steps of Fisher and Yates' shuffle.
std::vector<CalibrationItem> Manifest::sample(std::int64_t count, std::uint64_t seed) const {
  require(count >= 0, ErrorKind::kInvalidArgument, "samples: expected 0 or more, got ", count);
  std::vector<std::size_t> places(items.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  Random random(seed);
  std::vector<CalibrationItem> drawn;
  for (std::size_t i = 0; i < std::min(places.size(), static_cast<std::size_t>(count)); ++i) {
    std::swap(places[i], places[i + random.below(places.size() - i)]);
    drawn.push_back(items[places[i]]);
  }
  return drawn;
}

}  // namespace qvlm
