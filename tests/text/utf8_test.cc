#include "text/utf8.h"

#include "text/golden.h"

namespace qvlm {
namespace {

std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(Utf8, RepairsBrokenTextAsPythonDoes) {
  load_golden("broken_utf8").get("texts").for_each([](const std::string&, const Json& pair) {
    const std::string bytes = bytes_of(pair.at(0).as_string());
    const std::string expected = pair.at(1).as_string();
    std::string whole;
    EXPECT_EQ(append_repaired(bytes, true, whole), bytes.size());
    EXPECT_EQ(whole, expected) << pair.dump();
    EXPECT_EQ(is_valid_utf8(bytes), bytes == expected);

    std::string text;  // byte by byte it comes to the same
    std::string held;
    for (const char byte : bytes) {
      held += byte;
      held.erase(0, append_repaired(held, false, text));
      EXPECT_TRUE(is_valid_utf8(text));
    }
    append_repaired(held, true, text);
    EXPECT_EQ(text, expected) << pair.dump();
  });
}

TEST(Utf8, CharactersComeBackFromTheirBytes) {
  std::string text;
  for (const char32_t code : {0x0u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    const std::size_t begin = text.size();
    append_character(code, text);
    EXPECT_EQ(character_at(text, begin).code, code);
    EXPECT_EQ(character_before(text, text.size()).code, code);
    EXPECT_EQ(character_at(text, begin).size, text.size() - begin);
  }
  EXPECT_TRUE(is_valid_utf8(text));
}

TEST(Utf8, NormalizesToFormC) {
  EXPECT_EQ(to_nfc("e\xCC\x81"), "\xC3\xA9");
  EXPECT_EQ(to_nfc("\xE2\x84\xAB"), "\xC3\x85");                  // Angstrom sign to A with ring
  EXPECT_EQ(to_nfc("o\xCC\x82\xCC\xA3"), "\xE1\xBB\x99");         // marks reordered, then composed
  EXPECT_EQ(to_nfc("\xE0\xA5\x98"), "\xE0\xA4\x95\xE0\xA4\xBC");  // U+0958 is never composed
  EXPECT_EQ(to_nfc("plain \xC2\xB5"), "plain \xC2\xB5");
  EXPECT_EQ(to_nfc(""), "");
  // U+0C3C is newer than the reference's tables: the mark before it keeps its place.
  EXPECT_EQ(to_nfc("\xE0\xBB\x8A\xE0\xB0\xBC"), "\xE0\xBB\x8A\xE0\xB0\xBC");
}

}  // namespace
}  // namespace qvlm
