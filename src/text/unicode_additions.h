// Characters newer than Unicode 14, whose tables PCRE2 10.42 has; the reference knows them. With a
// newer PCRE2 they say nothing new and do no harm.
#pragma once

#include <span>
#include <string_view>

namespace qvlm {

struct UnicodeAddition {
  char32_t first;
  char32_t last;
  std::string_view category;  // general category, "Lu"
  bool han;                   // of the script Han
};

struct CharacterRange {
  char32_t first;
  char32_t last;
};

// Characters newer than Unicode 14, in ascending order.
std::span<const UnicodeAddition> unicode_additions();
// Older ones that normalization would move or compose, but not the reference's. In ascending order.
std::span<const CharacterRange> unknown_to_nfc();

}  // namespace qvlm
