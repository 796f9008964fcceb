// Protocols: how an item becomes a prompt, what its options are, and when an answer is right.
// Strings only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/dataset.h"

namespace qvlm {

// What the user turn says, without the image placeholder.
std::string make_question(const Dataset& dataset, const Item& item);

// Lower case (ASCII), without surrounding blanks and without one final full stop.
std::string normalize_answer(std::string_view text);

bool is_correct(const Dataset& dataset, const Item& item, std::string_view prediction);

// Text without surrounding blanks.
std::string trim(std::string_view text);

// What a margin compares: the item's right option and all its options (the right one among them),
// as a model that keeps to the prompt would write them.
struct Options {
  std::string right;
  std::vector<std::string> all;
};

// The options of every item: the letters or texts of its choices, yes and no, or else the distinct
// answers of its category in this data set.
std::vector<Options> make_options(const Dataset& dataset);

}  // namespace qvlm
