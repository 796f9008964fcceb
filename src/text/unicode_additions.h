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

// In ascending order.
std::span<const UnicodeAddition> unicode_additions();

}  // namespace qvlm
