// UTF-8 text as code points, and what Unicode says about single ones: the few questions that a
// tokenizer asks outside of regular expressions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace qvlm {

// One character of a text: its code point and how many bytes it takes.
struct Character {
  char32_t code = 0;
  std::size_t size = 1;
};

// The character that begins at `at`. REQUIRES: valid UTF-8, at < text.size().
Character character_at(std::string_view text, std::size_t at);
// The character that ends at `end`. REQUIRES: valid UTF-8, 0 < end <= text.size().
Character character_before(std::string_view text, std::size_t end);
void append_character(char32_t code, std::string& text);

bool is_valid_utf8(std::string_view text);

// Appends `bytes` to `text` as valid UTF-8: each maximal part that cannot begin a character becomes
// U+FFFD (the rule of the Unicode standard, of Rust and of Python). Returns how many bytes it took:
// unless `last`, an unfinished character at the end is left for the next call.
std::size_t append_repaired(std::string_view bytes, bool last, std::string& text);

// White_Space, Rust's and the regex crate's \s.
bool is_white_space(char32_t code);
// The regex crate's \w: letters, marks, decimal digits, connectors, joiners.
bool is_word_character(char32_t code);

// The text in normalization form C.
std::string to_nfc(std::string_view text);

}  // namespace qvlm
