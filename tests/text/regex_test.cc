#include "text/regex.h"

#include "text/golden.h"

namespace qvlm {
namespace {

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  std::vector<std::string> found;
  Regex(pattern, "test").for_each_match(text, [&](const Span& span) {
    found.emplace_back(text.substr(span.begin, span.end - span.begin));
  });
  return found;
}

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Regex, ReadsOnigurumasClasses) {
  EXPECT_THAT(matches("\\s", "a\xE1\xA0\x8E\xE3\x80\x80"),
              ElementsAre("\xE3\x80\x80"));  // not U+180E
  EXPECT_THAT(matches("[^\\s\\p{L}]+", "ab 12\t."), ElementsAre("12", "."));
  EXPECT_THAT(matches("\\w+", "a\xCC\x81_1-\xC2\xB2"), ElementsAre("a\xCC\x81_1", "\xC2\xB2"));
  EXPECT_THAT(matches("\\W", "a-b"), ElementsAre("-"));
  EXPECT_THAT(matches("\\p{L}+", "\xF0\xB1\x8D\x90z"),
              ElementsAre("\xF0\xB1\x8D\x90z"));  // U+31350
  EXPECT_THAT(matches("\\P{L}+", "a12b"), ElementsAre("12"));
  EXPECT_THAT(matches("\\p{Han}+", "\xE3\x80\x82\xE4\xBD\xA0"), ElementsAre("\xE4\xBD\xA0"));
  EXPECT_THAT(matches("(?i:'S)", "'s 'S '\xC5\xBF"), ElementsAre("'s", "'S", "'\xC5\xBF"));
  EXPECT_THAT(matches("\\x41|\\u00e9|\\x{20}", "A\xC3\xA9 "), ElementsAre("A", "\xC3\xA9", " "));
}

TEST(Regex, LiteralsMatchThemselves) {
  const std::string text = "a.b*(c)[d]\\|^$?+{}";
  std::vector<Span> found;
  Regex::literal(text, "test").for_each_match("xx" + text + text, [&](const Span& span) {
    found.push_back(span);
  });
  EXPECT_THAT(found,
              ElementsAre(Span{2, 2 + text.size()}, Span{2 + text.size(), 2 + 2 * text.size()}));
  EXPECT_THAT(matches("a", ""), IsEmpty());
}

TEST(Regex, RefusesWhatItWouldReadDifferently) {
  for (const char* pattern :
       {"^a", "a$", "\\h", "\\R", "a{1,3}+", "[[:alpha:]]", "[a&&b]", "[\\S]", "\\p{Greek}", "\\pL",
        "(?m:a)", "(?<name>a)", "\\p{Cn}", "\\xe9", "\\1", "a\\"}) {
    expect_failure([&] { Regex(pattern, "x.json: pattern"); }, ErrorKind::kUnsupported,
                   "x.json: pattern");
  }
  expect_failure([] { Regex("a*", "x.json"); }, ErrorKind::kUnsupported, "may match nothing");
  expect_failure([] { Regex("(a", "x.json"); }, ErrorKind::kCorrupt, "x.json");
  expect_failure([] { Regex::literal("", "x.json"); }, ErrorKind::kUnsupported, "empty pattern");
}

TEST(Regex, LongTextsDoNotRunOutOfStack) {
  const std::string text(200000, 'a');
  EXPECT_THAT(matches("(?:a|b)+c|a+", text), ElementsAre(text));
}

}  // namespace
}  // namespace qvlm
