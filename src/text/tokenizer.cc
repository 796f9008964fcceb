#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pretokenizer.h"
#include "text/utf8.h"
#include "text/word_cache.h"

namespace qvlm {
namespace {

// Calls visit for the parts of a word between cuts before each run of space marks.
template <typename Visit>
void for_each_marked_word(std::string_view word, const Visit& visit) {
  std::size_t begin = 0;
  for (std::size_t at = word.find(kSpaceMark, 1); at != std::string_view::npos;
       at = word.find(kSpaceMark, at + kSpaceMark.size())) {
    if (at == begin || word.substr(0, at).ends_with(kSpaceMark)) continue;
    visit(word.substr(begin, at - begin));
    begin = at;
  }
  visit(word.substr(begin));
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const Json& json)
      : normalizer(Normalizer::parse(json.find("normalizer"))),
        pretokenizer(Pretokenizer::parse(json.find("pre_tokenizer"))),
        bpe(Bpe::parse(json.get("model"))),
        added(AddedTokens::parse(
            json.contains("added_tokens") ? json.get("added_tokens") : Json::array(),
            bpe.vocabulary(),
            normalizer)),
        post_processor(PostProcessor::parse(json.find("post_processor"))),
        decoder(TextDecoder::parse(json.find("decoder"))) {
    require(!pretokenizer.depends_on_start() || normalizer.keeps_start(), ErrorKind::kUnsupported,
            json.where(),
            ": prepend_scheme 'first' after a normalizer that moves the start of the text");
  }

  void encode_word(std::string_view word, WordCache& cache, std::vector<std::int32_t>& ids) const;
  void encode_text(std::string_view text,
                   bool at_start,
                   WordCache& cache,
                   Words& words,
                   std::vector<std::int32_t>& ids) const;

  Normalizer normalizer;
  Pretokenizer pretokenizer;
  Bpe bpe;
  AddedTokens added;
  PostProcessor post_processor;
  TextDecoder decoder;
  mutable WordCachePool caches;
};

void Tokenizer::Parts::encode_word(std::string_view word,
                                   WordCache& cache,
                                   std::vector<std::int32_t>& ids) const {
  if (pretokenizer.byte_level()) {
    cache.append(word, ids, [this](std::string_view bytes, std::vector<std::int32_t>& out) {
      bpe.encode(to_byte_level(bytes), out);
    });
    return;
  }
  const auto encode = [this](std::string_view text, std::vector<std::int32_t>& out) {
    bpe.encode(text, out);
  };
  if (!bpe.may_cut_before_space_mark()) return cache.append(word, ids, encode);
  for_each_marked_word(word, [&](std::string_view part) { cache.append(part, ids, encode); });
}

// A text without added tokens that are looked for before normalization.
void Tokenizer::Parts::encode_text(std::string_view text,
                                   bool at_start,
                                   WordCache& cache,
                                   Words& words,
                                   std::vector<std::int32_t>& ids) const {
  std::string changed;
  if (!normalizer.empty()) {
    changed = text;
    normalizer.apply(changed);
    text = changed;
  }
  for (const auto& part : added.cut_normalized(text)) {
    if (part.id) {
      ids.push_back(*part.id);
      continue;
    }
    const std::string_view piece = text.substr(part.span.begin, part.span.end - part.span.begin);
    pretokenizer.split(piece, at_start && part.span.begin == 0, words);
    for (const std::string_view word : words.words)
      encode_word(word, cache, ids);
  }
}

Tokenizer Tokenizer::load(const std::filesystem::path& file) {
  return Tokenizer(std::make_shared<const Parts>(Json::load(file)));
}

Tokenizer Tokenizer::parse(std::string_view json, std::string_view source) {
  return Tokenizer(std::make_shared<const Parts>(Json::parse(json, source)));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    append_repaired(text, true, repaired);
    text = repaired;
  }
  std::vector<std::int32_t> ids;
  const PostProcessor& around = parts_->post_processor;
  if (add_special) ids = around.before;
  parts_->caches.with_cache([&](WordCache& cache) {
    Words words;
    for (const auto& part : parts_->added.cut_raw(text)) {
      if (part.id) {
        ids.push_back(*part.id);
        continue;
      }
      const std::string_view piece = text.substr(part.span.begin, part.span.end - part.span.begin);
      parts_->encode_text(piece, part.span.begin == 0, cache, words, ids);
    }
  });
  if (add_special) ids.insert(ids.end(), around.after.begin(), around.after.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamDecoder stream(*this, skip_special);
  std::string text;
  for (const std::int32_t id : ids)
    text += stream.push(id);
  return text += stream.finish();
}

std::optional<std::int32_t> Tokenizer::find_id(std::string_view token) const {
  if (const AddedToken* added = parts_->added.find(token)) return added->id;
  return parts_->bpe.vocabulary().find(token);
}

std::optional<std::string_view> Tokenizer::find_token(std::int32_t id) const {
  if (const AddedToken* added = parts_->added.find(id)) return added->content;
  if (const std::string* token = parts_->bpe.vocabulary().find(id)) return *token;
  return std::nullopt;
}

std::string_view Tokenizer::token(std::int32_t id) const {
  const std::optional<std::string_view> token = find_token(id);
  require(token.has_value(), ErrorKind::kInvalidArgument, "the tokenizer has no token ", id);
  return *token;
}

std::int32_t Tokenizer::size() const {
  return std::max(parts_->bpe.vocabulary().size(), parts_->added.size());
}

struct StreamDecoder::State {
  Tokenizer tokenizer;
  bool skip_special;
  DecodeChain chain;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(new State{tokenizer, skip_special, tokenizer.parts_->decoder.start()}) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(std::int32_t id) {
  std::string piece;
  const std::optional<std::string_view> token = state_->tokenizer.find_token(id);
  if (!token) return piece;
  const AddedToken* added = state_->tokenizer.parts_->added.find(*token);
  const bool skip = state_->skip_special && added != nullptr && added->special;
  if (!skip) state_->chain.push(*token, piece);
  return piece;
}

std::string StreamDecoder::finish() {
  std::string piece;
  state_->chain.finish(piece);
  return piece;
}

}  // namespace qvlm
