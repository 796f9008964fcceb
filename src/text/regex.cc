#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "base/error.h"
#include "text/unicode_additions.h"

namespace qvlm {
namespace {

// Rewrites Oniguruma's dialect to PCRE2's, one construct at a time.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else {
        plain_character(c);
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    fail(ErrorKind::kUnsupported, where_, ": the construct ", construct, " in the pattern ", in_);
  }

  bool follows(std::string_view text) const { return in_.substr(at_).starts_with(text); }

  void copy(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void plain_character(char c) {
    // Ruby's ^ and $ match at every line, PCRE2's at the ends of the text.
    if (c == '^' || c == '$') refuse("'^' or '$' outside of a class");
    if (c == '(' && follows("(?")) return group();
    if (c == '}' && follows("}+"))
      refuse("'}+'");  // possessive in PCRE2, a repeated repeat in Ruby
    if (c == '[') {
      in_class_ = true;
      copy(follows("[^") ? 2 : 1);
      return;
    }
    copy(1);
  }

  void group() {
    for (const std::string_view known : {"(?:", "(?i:", "(?!", "(?=", "(?<=", "(?<!", "(?>"}) {
      if (follows(known)) return copy(known.size());
    }
    refuse(in_.substr(at_, 4));
  }

  void class_character(char c) {
    if (c == '[') refuse("a class inside a class");
    if (follows("&&")) refuse("'&&' in a class");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  // PCRE2 counts U+180E as space and knows \w as letters, numbers and '_' only. Oniguruma's \w has
  // some numbers of Latin-1, but no other number that is not a digit.
  void escape() {
    if (at_ + 1 >= in_.size()) refuse("a single backslash at the end");
    const char c = in_[at_ + 1];
    switch (c) {
      case 's':
        return set(2, "\\p{White_Space}", false);
      case 'S':
        return set(2, "\\p{White_Space}", true);
      case 'd':
        return set(2, category("Nd"), false);
      case 'D':
        return set(2, category("Nd"), true);
      case 'w':
        return set(2, word(), false);
      case 'W':
        return set(2, word(), true);
      case 'p':
      case 'P':
        return property(c == 'P');
      case 'r':
      case 'n':
      case 't':
      case 'f':
        return copy(2);
      case 'u':
        return code_point(4);
      case 'x':
        if (!follows("\\x{")) return code_point(2);
        return copy(3);  // \x{...} reads the same in both
      default:
        break;
    }
    const bool letter_or_digit = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (letter_or_digit) refuse(join("'\\", c, "'"));
    copy(2);
  }

  // Writes members of a class in place of the next `count` characters.
  void set(std::size_t count, const std::string& members, bool negated) {
    if (in_class_ && negated) refuse(join("'", in_.substr(at_, count), "' in a class"));
    out_ += in_class_ ? members : join(negated ? "[^" : "[", members, "]");
    at_ += count;
  }

  // Members of a class: a general category ("L", "Lu"), or Han, with the additions of its newer
  // characters.
  static std::string category(std::string_view name) {
    std::string members = name == "Han" ? "\\p{sc:Han}" : join("\\p{", name, "}");
    for (const UnicodeAddition& addition : unicode_additions()) {
      if (name == "Han" ? !addition.han : !addition.category.starts_with(name)) continue;
      members += join(std::hex, "\\x{", std::uint32_t{addition.first}, "}-\\x{");
      members += join(std::hex, std::uint32_t{addition.last}, "}");
    }
    return members;
  }

  static std::string word() {
    return join("\\p{Alphabetic}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}", category("L"), category("M"),
                category("Nd"), category("Nl"), category("Pc"));
  }

  void property(bool negated) {
    const std::size_t end = in_.find('}', at_);
    if (in_[at_ + 2] != '{' || end == std::string_view::npos) refuse("a property without braces");
    const std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    // Unassigned characters (C, Cn) are others in each version of Unicode; scripts would need
    // additions.
    static constexpr std::string_view known[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn",
                                                 "Mc", "Me", "N",  "Nd", "Nl", "No", "P",  "Pc",
                                                 "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
                                                 "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Han"};
    if (std::find(std::begin(known), std::end(known), name) == std::end(known)) {
      refuse(in_.substr(at_, end + 1 - at_));
    }
    set(end + 1 - at_, category(name), negated);
  }

  void code_point(std::size_t digits) {
    const std::string_view hex = in_.substr(at_ + 2, digits);
    const bool whole = hex.size() == digits &&
                       hex.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    // \x80 and above are bytes to Oniguruma, code points to PCRE2.
    if (!whole || (digits == 2 && hex[0] > '7')) refuse(in_.substr(at_, 2 + digits));
    out_ += join("\\x{", hex, "}");
    at_ += 2 + digits;
  }

  std::string_view in_;
  std::string_view where_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

std::string message(int error) {
  PCRE2_UCHAR text[160] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* code) : compiled(code) {}
  ~Code() { pcre2_code_free(compiled); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* compiled;
  bool jit = false;
};

Regex::Regex(std::string_view pattern, std::string_view where) {
  const std::string text = Translator(pattern, where).run();
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                       PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  require(compiled != nullptr, ErrorKind::kCorrupt, where,
          ": not a regular expression we can read: ", pattern, " (", message(error), ")");
  auto code = std::make_shared<Code>(compiled);
  std::uint32_t may_be_empty = 0;
  pcre2_pattern_info(compiled, PCRE2_INFO_MATCHEMPTY, &may_be_empty);
  require(may_be_empty == 0, ErrorKind::kUnsupported, where,
          ": a pattern that may match nothing: ", pattern);
  code->jit =
      pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;  // else interpreted, only slower
  code_ = std::move(code);
}

Regex Regex::literal(std::string_view text, std::string_view where) {
  require(!text.empty(), ErrorKind::kUnsupported, where, ": an empty pattern");
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return Regex(escaped, where);
}

Regex::Search::Search(const Regex& regex, std::string_view text)
    : code_(*regex.code_),
      text_(text),
      match_data_(pcre2_match_data_create_from_pattern(regex.code_->compiled, nullptr)) {
  require(match_data_ != nullptr, ErrorKind::kResource, "no memory to search a text");
}

Regex::Search::~Search() {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(match_data_));
}

std::optional<Span> Regex::Search::next(std::size_t from) const {
  auto* data = static_cast<pcre2_match_data*>(match_data_);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code_.jit) {
    result = pcre2_jit_match(code_.compiled, subject, text_.size(), from, 0, data, nullptr);
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
    result = pcre2_match(code_.compiled, subject, text_.size(), from,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, nullptr);
  }
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  require(result >= 0, ErrorKind::kResource, "splitting a text failed: ", message(result));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
  return Span{ends[0], ends[1]};
}

}  // namespace qvlm
