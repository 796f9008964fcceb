#include "text/normalizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace qvlm {
namespace {

void strip(bool left, bool right, std::string& text) {
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (left && begin < end) {
    const Character character = character_at(text, begin);
    if (!is_white_space(character.code)) break;
    begin += character.size;
  }
  while (right && begin < end) {
    const Character character = character_before(text, end);
    if (!is_white_space(character.code)) break;
    end -= character.size;
  }
  text = text.substr(begin, end - begin);
}

}  // namespace

std::variant<std::string, Regex> parse_pattern(const Json& pattern) {
  if (pattern.contains("String")) {
    std::string text = pattern.get_string("String");
    require(!text.empty(), ErrorKind::kUnsupported, pattern.where(), ": an empty pattern");
    return text;
  }
  return Regex(pattern.get_string("Regex"), pattern.where());
}

Replacement Replacement::parse(const Json& component) {
  Replacement replacement;
  replacement.pattern_ = parse_pattern(component.get("pattern"));
  replacement.content_ = component.get_string("content");
  return replacement;
}

std::string Replacement::apply(std::string_view text) const {
  std::string result;
  result.reserve(text.size() + text.size() / 4);
  std::size_t done = 0;
  const auto replace = [&](const Span& match) {
    result += text.substr(done, match.begin - done);
    result += content_;
    done = match.end;
  };
  if (const auto* regex = std::get_if<Regex>(&pattern_)) {
    regex->for_each_match(text, replace);
  } else {
    const auto& literal = std::get<std::string>(pattern_);
    for (std::size_t at = text.find(literal); at != std::string_view::npos;
         at = text.find(literal, done)) {
      replace({at, at + literal.size()});
    }
  }
  return result += text.substr(done);
}

Normalizer Normalizer::parse(const Json& component) {
  Normalizer normalizer;
  if (!component.is_null()) normalizer.add(component);
  return normalizer;
}

void Normalizer::add(const Json& component) {
  const std::string type = component.get_string("type");
  if (type == "Sequence") {
    component.get("normalizers").for_each([&](const std::string&, const Json& step) { add(step); });
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{component.get_string("prepend")});
  } else if (type == "Replace") {
    steps_.emplace_back(Replacement::parse(component));
  } else if (type == "NFC") {
    steps_.emplace_back(Nfc{});
  } else if (type == "Strip") {
    steps_.emplace_back(Strip{component.get_bool("strip_left"), component.get_bool("strip_right")});
  } else {
    fail(ErrorKind::kUnsupported, component.where(), ": the normalizer '", type, "'");
  }
}

void Normalizer::apply(std::string& text) const {
  for (const Step& step : steps_) {
    if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!text.empty()) text.insert(0, prepend->text);
    } else if (const auto* replacement = std::get_if<Replacement>(&step)) {
      text = replacement->apply(text);
    } else if (const auto* sides = std::get_if<Strip>(&step)) {
      strip(sides->left, sides->right, text);
    } else {
      text = to_nfc(text);
    }
  }
}

bool Normalizer::keeps_start() const {
  return std::all_of(steps_.begin(), steps_.end(), [](const Step& step) {
    const auto* replacement = std::get_if<Replacement>(&step);
    return std::holds_alternative<Nfc>(step) ||
           (replacement != nullptr && replacement->keeps_length_positive());
  });
}

}  // namespace qvlm
