// The calibration manifest: a JSONL file, one conversation about images a line, whose last turn is
// the answer that the model is expected to give.
//
//   {"image": "images/3.png", "question": "what shape is it?", "answer": "circle"}
//   {"image": null, "turns": [{"role": "user", "text": "..."}, {"role": "assistant", "text":
//   ".."}]}
//
// "image" is a path, a list of paths, or null. Other keys are ignored, so that the data folders of
// `qvlm evaluate` can be read where their answers are texts. Reads and checks everything but the
// pixels; what the model sees of an item is calib/samples.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "text/chat_template.h"

namespace qvlm {

struct CalibrationItem {
  std::string where;                          // "calib.jsonl:12", for messages
  std::vector<std::filesystem::path> images;  // complete paths; before the first turn's text
  std::vector<Turn> turns;  // begins and ends with the user's; the first one counts the images
  std::string answer;       // what the assistant says then; not empty
};

struct Manifest {
  std::filesystem::path file;
  std::vector<CalibrationItem> items;
  // The data hash: of the lines that sha256sum's first column has for the file and then for each
  // item's images, in order.
  std::string sha256;

  // `data`: the JSONL file, or a folder with data.jsonl in it; image paths are relative to the
  // file. Throws kNotFound (the file, a key, an image) or kCorrupt, naming file, line and key: not
  // JSON, a wrong type, neither question nor turns or both, turns that do not alternate, no answer
  // at their end, an empty answer, "<image>" in a text, no line at all.
  static Manifest load(const std::filesystem::path& data);

  // Draws `count` items without repetition, in the order drawn; the same for the same seed. All of
  // them, shuffled, when there are no more. Throws kInvalidArgument for a negative count.
  std::vector<CalibrationItem> sample(std::int64_t count, std::uint64_t seed) const;
};

}  // namespace qvlm
