#include "text/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "text/unicode_additions.h"

namespace qvlm {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// How far a character got: `size` bytes belong together, and they are a character, could become one
// with more bytes, or never will.
enum class Sequence { kWhole, kUnfinished, kBad };
struct Scan {
  Sequence kind;
  std::size_t size;
};

Scan scan_character(std::string_view bytes, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Sequence::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Sequence::kBad, 1};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte rules out overlong forms, surrogates and code points above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i >= bytes.size()) return {Sequence::kUnfinished, i};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) {
      return {Sequence::kBad, i};
    }
  }
  return {Sequence::kWhole, size};
}

template <typename Range>
bool contains(std::span<const Range> ranges, char32_t code) {
  const auto range = std::partition_point(ranges.begin(), ranges.end(),
                                          [code](const Range& r) { return r.last < code; });
  return range != ranges.end() && range->first <= code;
}

// A character the reference does not know is to it a letter that nothing combines with.
bool is_known_to_nfc(char32_t code) {
  return code < unknown_to_nfc().front().first ||
         (!contains(unknown_to_nfc(), code) && !contains(unicode_additions(), code));
}

void append_nfc(std::string_view text, std::string& result) {
  if (text.empty()) return;
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, std::free);
  require(size >= 0, ErrorKind::kResource, "normalization failed: ", utf8proc_errmsg(size));
  result.append(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size));
}

bool is_ascii(std::string_view text) {
  unsigned char all = 0;
  for (const char c : text)
    all |= static_cast<unsigned char>(c);
  return all < 0x80;
}

}  // namespace

Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

Character character_before(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
    --begin;
  return character_at(text, begin);
}

void append_character(char32_t code, std::string& text) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  if (is_ascii(text)) return true;
  for (std::size_t at = 0; at < text.size();) {
    const Scan scan = scan_character(text, at);
    if (scan.kind != Sequence::kWhole) return false;
    at += scan.size;
  }
  return true;
}

std::size_t append_repaired(std::string_view bytes, bool last, std::string& text) {
  for (std::size_t at = 0; at < bytes.size();) {
    const Scan scan = scan_character(bytes, at);
    if (scan.kind == Sequence::kUnfinished && !last) return at;
    text += scan.kind == Sequence::kWhole ? bytes.substr(at, scan.size) : kReplacement;
    at += scan.size;
  }
  return bytes.size();
}

bool is_white_space(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r');
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_word_character(char32_t code) {
  for (const UnicodeAddition& addition : unicode_additions()) {
    if (code > addition.last || code < addition.first) continue;
    const char kind = addition.category[0];
    return kind == 'L' || kind == 'M' || addition.category == "Nd" || addition.category == "Pc";
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // Join_Control, and the symbols of Other_Alphabetic (letters in circles and squares)
      return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
             (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
             (code >= 0x1F170 && code <= 0x1F189);
  }
}

std::string to_nfc(std::string_view text) {
  // Below U+0300 every text is in form C already; 0xCC is the lead byte of U+0300.
  bool changes = false;
  for (const char c : text)
    changes |= static_cast<unsigned char>(c) >= 0xCC;
  if (!changes) return std::string(text);
  std::string result;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    if (!is_known_to_nfc(character.code)) {
      append_nfc(text.substr(done, at - done), result);
      result += text.substr(at, character.size);
      done = at + character.size;
    }
    at += character.size;
  }
  append_nfc(text.substr(done), result);
  return result;
}

}  // namespace qvlm
