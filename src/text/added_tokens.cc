#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace qvlm {
namespace {

AddedToken parse_token(const Json& json) {
  AddedToken token;
  token.content = json.get_string("content");
  const std::int64_t id = json.get_int("id");
  require(std::in_range<std::int32_t>(id), ErrorKind::kCorrupt, json.where(), ": the id ", id);
  token.id = static_cast<std::int32_t>(id);
  token.special = json.get_bool("special");
  token.normalized = json.get_bool("normalized");
  token.single_word = json.get_bool("single_word");
  token.lstrip = json.get_bool("lstrip");
  token.rstrip = json.get_bool("rstrip");
  require(!token.content.empty(), ErrorKind::kUnsupported, json.where(), ": an empty token");
  return token;
}

bool touches_word(std::string_view text, const Span& span) {
  return (span.begin > 0 && is_word_character(character_before(text, span.begin).code)) ||
         (span.end < text.size() && is_word_character(character_at(text, span.end).code));
}

// The span with the white space that the token takes along; not what a token before it took.
Span with_white_space(std::string_view text, Span span, const AddedToken& token, std::size_t done) {
  if (token.lstrip) {
    while (span.begin > done) {
      const Character character = character_before(text, span.begin);
      if (!is_white_space(character.code)) break;
      span.begin -= character.size;
    }
    span.begin = std::max(span.begin, done);
  }
  while (token.rstrip && span.end < text.size()) {
    const Character character = character_at(text, span.end);
    if (!is_white_space(character.code)) break;
    span.end += character.size;
  }
  return span;
}

}  // namespace

void TextFinder::add(std::string_view text, std::size_t value) {
  values_.emplace(text, value);
  auto& lengths = lengths_[static_cast<unsigned char>(text[0])];
  if (std::find(lengths.begin(), lengths.end(), text.size()) == lengths.end()) {
    lengths.push_back(text.size());
    std::sort(lengths.rbegin(), lengths.rend());
  }
}

std::optional<TextFinder::Match> TextFinder::find(std::string_view text, std::size_t from) const {
  if (values_.empty()) return std::nullopt;
  for (std::size_t at = from; at < text.size(); ++at) {
    for (const std::size_t length : lengths_[static_cast<unsigned char>(text[at])]) {
      if (at + length > text.size()) continue;
      const auto found = values_.find(text.substr(at, length));
      if (found != values_.end()) return Match{{at, at + length}, found->second};
    }
  }
  return std::nullopt;
}

AddedTokens AddedTokens::parse(const Json& array,
                               const Vocabulary& vocabulary,
                               const Normalizer& normalizer) {
  AddedTokens added;
  // The reference ignores the ids in the file: a token of the vocabulary keeps its id there,
  // another one gets the next free number.
  auto next = static_cast<std::int32_t>(vocabulary.count());
  array.for_each([&](const std::string&, const Json& json) {
    AddedToken token = parse_token(json);
    const auto known = vocabulary.find(token.content);
    const std::int32_t expected = known ? *known : next;
    require(token.id == expected, ErrorKind::kUnsupported, json.where(), ": the added token '",
            token.content, "' has the id ", token.id, ", expected ", expected);
    next = std::max(next, token.id + 1);
    added.size_ = std::max(added.size_, token.id + 1);
    const std::size_t index = added.tokens_.size();
    const bool fresh = added.by_content_.emplace(token.content, index).second;
    require(fresh, ErrorKind::kUnsupported, json.where(), ": '", token.content, "' is added twice");
    added.by_id_.emplace(token.id, index);
    std::string pattern = token.content;
    if (token.normalized) normalizer.apply(pattern);
    require(!pattern.empty(), ErrorKind::kUnsupported, json.where(), ": '", token.content,
            "' is empty after normalization");
    (token.normalized ? added.normalized_ : added.raw_).add(pattern, index);
    added.tokens_.push_back(std::move(token));
  });
  return added;
}

std::vector<AddedTokens::Part> AddedTokens::cut(const TextFinder& finder,
                                                std::string_view text) const {
  std::vector<Part> parts;
  std::size_t done = 0;
  for (auto match = finder.find(text, 0); match; match = finder.find(text, match->span.end)) {
    const AddedToken& token = tokens_[match->value];
    if (token.single_word && touches_word(text, match->span)) continue;
    const Span span = with_white_space(text, match->span, token, done);
    if (done < span.begin) parts.push_back({{done, span.begin}, std::nullopt});
    parts.push_back({span, token.id});
    done = span.end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, std::nullopt});
  return parts;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace qvlm
