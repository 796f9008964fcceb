// Small folders to run whole evaluations on: a random LLaVA (tests/data/llava) with a tokenizer,
// and questions.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace qvlm {

// Writes a file, its folders included; returns its path.
std::filesystem::path write_file(const std::filesystem::path& file, const std::string& text);

// The tokenizer knows bytes and, as one token each, a blank followed by one of these letters.
inline constexpr std::string_view kFirstLetters = "rbynAB";
inline constexpr int kFirstMergedToken = 256;  // a blank and kFirstLetters[0]

// A copy of tests/data/llava/<name> with a tokenizer whose "<image>" has the id that the configs
// name.
void make_tiny_model(const std::filesystem::path& folder, const std::string& name);

// Two pictures with three questions each and one question without a picture; returns data.jsonl.
std::filesystem::path make_tiny_data(const std::filesystem::path& folder);

// Calibration data of so many questions about the pictures of tests/data/llava.
void make_tiny_calibration(const std::filesystem::path& file, int questions);

// A tensor taken out of a file to be changed.
struct EditedTensor {
  TensorInfo info;
  std::string bytes;
};

// Rewrites a weight file after `edit` has changed the list of its tensors.
void edit_weights(const std::filesystem::path& file,
                  const std::function<void(std::vector<EditedTensor>&)>& edit);

// The tensor whose name ends so. REQUIRES: there is one.
EditedTensor& find_tensor(std::vector<EditedTensor>& tensors, std::string_view ending);

}  // namespace qvlm
