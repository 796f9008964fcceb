#include "text/bpe.h"

#include <algorithm>
#include <map>
#include <type_traits>

#include "base/random.h"
#include "text/golden.h"
#include "text/word_cache.h"

namespace qvlm {
namespace {

// Its index points into its tokens.
static_assert(!std::is_copy_constructible_v<Vocabulary> &&
              std::is_move_constructible_v<Vocabulary>);

// The rule as one would write it down: join the pair of the lowest rank, leftmost first, until none
// is left.
std::vector<std::string> merge_by_the_rule(std::vector<std::string> symbols,
                                           const std::map<std::string, int>& ranks) {
  while (true) {
    int best = -1;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find(symbols[i] + " " + symbols[i + 1]);
      if (found != ranks.end() && (best < 0 || found->second < best)) {
        best = found->second;
        at = i;
      }
    }
    if (best < 0) return symbols;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// Random merges over the letters a to d, in which the same token can come from different pairs.
struct Model {
  explicit Model(std::uint64_t seed) : random(seed) {
    Json vocabulary = Json::object();
    Json merges = Json::array();
    std::vector<std::string> tokens = {"a", "b", "c", "d"};
    for (const auto& token : tokens)
      vocabulary.set(token, static_cast<int>(vocabulary.size()));
    while (merges.size() < 60) {
      const std::string left = tokens[random.below(tokens.size())];
      const std::string right = tokens[random.below(tokens.size())];
      if (ranks.contains(left + " " + right) || left.size() + right.size() > 12) continue;
      ranks[left + " " + right] = static_cast<int>(merges.size());
      merges.append(left + " " + right);
      if (vocabulary.contains(left + right)) continue;
      vocabulary.set(left + right, static_cast<int>(vocabulary.size()));
      tokens.push_back(left + right);
    }
    json.set("vocab", vocabulary);
    json.set("merges", merges);
  }

  std::string word(std::size_t size) {
    std::string text;
    while (text.size() < size)
      text += "abcd"[random.below(4)];
    return text;
  }

  Random random;
  std::map<std::string, int> ranks;
  Json json = Json::object();
};

TEST(Bpe, MergesByTheRuleAtEveryLength) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Model model(seed);
    const Bpe bpe = Bpe::parse(model.json);
    for (const std::size_t size : {1, 2, 3, 7, 20, 47, 48, 49, 50, 150}) {
      const std::string word = model.word(size);
      std::vector<std::string> symbols;
      for (const char c : word)
        symbols.emplace_back(1, c);
      std::vector<std::int32_t> ids;
      bpe.encode(word, ids);
      std::vector<std::string> tokens;
      for (const auto id : ids)
        tokens.push_back(*bpe.vocabulary().find(id));
      EXPECT_EQ(tokens, merge_by_the_rule(symbols, model.ranks)) << word;
    }
  }
}

TEST(Bpe, LongWordsDoNotTakeQuadraticTime) {
  Model model(1);
  const Bpe bpe = Bpe::parse(model.json);
  std::vector<std::int32_t> ids;
  bpe.encode(model.word(2000000), ids);  // seconds at n log n; hours at n squared
  EXPECT_FALSE(ids.empty());
}

TEST(Bpe, RefusesWhatItCannotCompute) {
  const auto parse = [](const std::string& fields) {
    return [fields] { Bpe::parse(Json::parse("{" + fields + "}", "t.json")); };
  };
  const std::string base = R"("vocab":{"a":0,"b":1,"ab":2},"merges":["a b"])";
  EXPECT_NO_THROW(parse(base)());
  expect_failure(parse(R"("type":"Unigram",)" + base), ErrorKind::kUnsupported, "Unigram");
  expect_failure(parse(R"("dropout":0.1,)" + base), ErrorKind::kUnsupported, "dropout");
  for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    expect_failure(parse(join("\"", option, "\":\"##\",", base)), ErrorKind::kUnsupported, option);
  }
  expect_failure(parse(R"("byte_fallback":true,)" + base), ErrorKind::kUnsupported, "<0x00>");
  expect_failure(parse(R"("unk_token":"<unk>",)" + base), ErrorKind::kCorrupt, "unk_token");
  expect_failure(parse(R"("vocab":{"a":0},"merges":["a b"])"), ErrorKind::kCorrupt, "merges[0]");
  expect_failure(parse(R"("vocab":{"a":0},"merges":["a"])"), ErrorKind::kCorrupt, "merges[0]");
  expect_failure(parse(R"("vocab":{"a":0},"merges":[["a"]])"), ErrorKind::kCorrupt, "merges[0]");
  expect_failure(parse(R"("vocab":{"a":0,"b":0},"merges":[])"), ErrorKind::kCorrupt, "the id 0");
  expect_failure(parse(R"("vocab":{"a":-1},"merges":[])"), ErrorKind::kCorrupt, "the id -1");
  expect_failure(parse(R"("vocab":{"a":1e15},"merges":[])"), ErrorKind::kCorrupt, "the id");
  expect_failure(parse(R"("vocab":{"a":0})"), ErrorKind::kNotFound, "merges");
}

TEST(WordCache, AnswersWhatTheEncoderSaid) {
  WordCache cache;
  Random random(7);
  const auto encode = [](std::string_view word, std::vector<std::int32_t>& ids) {
    for (const char c : word)
      ids.push_back(c);
    ids.push_back(static_cast<std::int32_t>(word.size()));
  };
  for (int i = 0; i < 100000; ++i) {  // several times as many words as fit
    const std::string word =
        std::to_string(random.below(60000)) + std::string(random.below(70), '\0');
    std::vector<std::int32_t> expected = {-1};
    std::vector<std::int32_t> got = {-1};
    encode(word, expected);
    cache.append(word, got, encode);
    ASSERT_EQ(got, expected);
  }
}

}  // namespace
}  // namespace qvlm
