#include "text/tokenizer.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <thread>

#include "base/mapped_file.h"
#include "base/random.h"
#include "text/golden.h"

namespace qvlm {
namespace {

Tokenizer load_style(const std::string& name) {
  return Tokenizer::parse(load_golden(name).get("tokenizer").dump(), name);
}

class Styles : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All,
                         Styles,
                         ::testing::Values("llama2",
                                           "llama2_metaspace",
                                           "phi3",
                                           "gemma",
                                           "qwen",
                                           "llama3",
                                           "flags",
                                           "pieces",
                                           "plain"));

TEST_P(Styles, GiveTheIdsAndTextsOfTheReference) {
  const Json golden = load_golden(GetParam());
  const Tokenizer tokenizer = load_style(GetParam());
  golden.get("encode").for_each([&](const std::string&, const Json& row) {
    const bool special = row.at(0).as_bool();
    const std::vector<std::int32_t> ids = ids_of(row.at(2));
    EXPECT_EQ(tokenizer.encode(row.at(1).as_string(), special), ids) << row.dump();
    EXPECT_EQ(tokenizer.decode(ids, special), row.at(3).as_string()) << row.dump();
  });
  golden.get("decode").for_each([&](const std::string&, const Json& row) {
    EXPECT_EQ(tokenizer.decode(ids_of(row.at(0)), true), row.at(1).as_string()) << row.dump();
  });
}

TEST_P(Styles, StreamsJoinToTheDecodedText) {
  const Tokenizer tokenizer = load_style(GetParam());
  load_golden(GetParam()).get("decode").for_each([&](const std::string&, const Json& row) {
    const std::vector<std::int32_t> ids = ids_of(row.at(0));
    for (const bool skip : {true, false}) {
      EXPECT_EQ(streamed(tokenizer, ids, skip), tokenizer.decode(ids, skip)) << row.dump();
    }
  });
}

TEST_P(Styles, KnowTheirTokensByIdAndByText) {
  const Tokenizer tokenizer = load_style(GetParam());
  for (std::int32_t id = 0; id < tokenizer.size(); ++id) {
    EXPECT_EQ(tokenizer.find_id(tokenizer.token(id)), id);
  }
  EXPECT_EQ(tokenizer.find_id("no such token"), std::nullopt);
  for (const std::int32_t id : {-1, tokenizer.size(), 1 << 30}) {
    expect_failure([&] { tokenizer.token(id); }, ErrorKind::kInvalidArgument, std::to_string(id));
  }
}

// As the reference does: models pad their vocabularies, and may choose such an id.
TEST_P(Styles, GiveNoTextForIdsWithoutAToken) {
  const Tokenizer tokenizer = load_style(GetParam());
  load_golden(GetParam()).get("decode").for_each([&](const std::string&, const Json& row) {
    std::vector<std::int32_t> ids = {tokenizer.size()};
    for (const std::int32_t id : ids_of(row.at(0))) {
      ids.insert(ids.end(), {id, tokenizer.size() + 62});
    }
    EXPECT_EQ(tokenizer.decode(ids, true), row.at(1).as_string()) << row.dump();
    EXPECT_EQ(streamed(tokenizer, ids, true), row.at(1).as_string()) << row.dump();
  });
  const std::vector<std::int32_t> unknown = {-1, 1 << 30};
  EXPECT_EQ(tokenizer.decode(unknown, false), "");
}

TEST_P(Styles, EncodeTheSameInManyThreads) {
  const Json rows = load_golden(GetParam()).get("encode");
  const Tokenizer tokenizer = load_style(GetParam());
  std::vector<std::thread> threads;
  std::vector<int> wrong(6);
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const Json row = rows.at(i);
        const bool special = row.at(0).as_bool();
        count += tokenizer.encode(row.at(1).as_string(), special) != ids_of(row.at(2));
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
}

TEST(Tokenizer, ByteLevelTextsComeBackWhole) {
  Random random(3);
  for (const char* style : {"llama3", "qwen"}) {
    const Tokenizer tokenizer = load_style(style);
    for (int i = 0; i < 2000; ++i) {
      std::string text;  // below U+0300, where NFC changes nothing
      for (std::uint64_t n = random.below(30); n > 0; --n) {
        append_character(static_cast<char32_t>(random.below(0x300)), text);
      }
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true), true), text);
    }
  }
}

TEST(Tokenizer, BrokenTextIsRepaired) {
  const Tokenizer tokenizer = load_style("llama2");
  const std::string repaired = "a\xEF\xBF\xBDz";
  EXPECT_EQ(tokenizer.encode("a\xE2\x82z", true), tokenizer.encode(repaired, true));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xFFz", true), true), repaired);
}

TEST(Tokenizer, StreamsHoldBackOnlyWhatMayChange) {
  const Tokenizer tokenizer = load_style("llama3");
  StreamDecoder decoder(tokenizer, true);
  const std::vector<std::int32_t> ids = tokenizer.encode("\xF0\x9F\xA7\xBF!", false);
  std::string shown;
  for (const std::int32_t id : ids) {
    shown += decoder.push(id);
    EXPECT_TRUE(shown.empty() || shown == "\xF0\x9F\xA7\xBF" || shown == "\xF0\x9F\xA7\xBF!");
  }
  EXPECT_EQ(shown, "\xF0\x9F\xA7\xBF!");
  EXPECT_EQ(decoder.finish(), "");
}

// A small document with one part replaced.
std::function<void()> parse_with(const std::string& part, const std::string& value) {
  return [part, value] {
    Json document = Json::parse(R"({"model":{"vocab":{"a":0,"b":1},"merges":[]}})", "t.json");
    document.set(part, Json::parse(value, "part"));
    Tokenizer::parse(document.dump(), "t.json");
  };
}

TEST(Tokenizer, RefusesWhatItWouldComputeWrongly) {
  using enum ErrorKind;
  EXPECT_NO_THROW(parse_with("added_tokens", "[]")());
  expect_failure(parse_with("normalizer", R"({"type":"Lowercase"})"), kUnsupported, "Lowercase");
  expect_failure(parse_with("pre_tokenizer", R"({"type":"BertPreTokenizer"})"), kUnsupported,
                 "BertPre");
  expect_failure(parse_with("decoder", R"({"type":"WordPiece"})"), kUnsupported, "WordPiece");
  expect_failure(parse_with("post_processor", R"({"type":"BertProcessing"})"), kUnsupported,
                 "BertProcessing");
  const std::string byte = R"({"type":"ByteLevel","add_prefix_space":false})";
  expect_failure(parse_with("pre_tokenizer",
                            R"({"type":"Sequence","pretokenizers":[)" + byte + "," + byte + "]}"),
                 kUnsupported, "after ByteLevel");
  expect_failure(
      parse_with("decoder",
                 R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]})"),
      kUnsupported, "after Fuse");
  const std::string split = R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Sideways"})";
  expect_failure(parse_with("pre_tokenizer", split), kUnsupported, "Sideways");
  const std::string pair = R"({"type":"TemplateProcessing","special_tokens":{},"single":[]})";
  expect_failure(parse_with("post_processor", pair), kUnsupported, "sequence A");
  const std::string flags =
      R"("special":true,"normalized":false,"single_word":false,"lstrip":false,"rstrip":false)";
  expect_failure(parse_with("added_tokens", R"([{"id":7,"content":"<s>",)" + flags + "}]"),
                 kUnsupported, "expected 2");
  // 2^32 + 2 must not wrap to the right id.
  expect_failure(parse_with("added_tokens", R"([{"id":4294967298,"content":"<s>",)" + flags + "}]"),
                 kCorrupt, "4294967298");
  expect_failure(parse_with("post_processor", R"({"type":"TemplateProcessing",
                     "special_tokens":{"<s>":{"ids":[4294967297]}},
                     "single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}]})"),
                 kCorrupt, "4294967297");
  expect_failure(parse_with("added_tokens", R"([{"id":2,"content":"",)" + flags + "}]"),
                 kUnsupported, "empty token");
}

TEST(Tokenizer, MissingAndBrokenFilesAreNamed) {
  expect_failure([] { Tokenizer::load("/nowhere/t.json"); }, ErrorKind::kNotFound, "/nowhere");
  expect_failure([] { Tokenizer::parse("{", "t.json"); }, ErrorKind::kCorrupt, "t.json");
  expect_failure([] { Tokenizer::parse("{}", "t.json"); }, ErrorKind::kNotFound, "model");
}

// GPT-2's files are from before tokenizer.json; this writes the document they stand for.
Tokenizer load_gpt2(const std::string& folder) {
  Json model = Json::object();
  model.set("vocab", Json::load(folder + "/gpt2_vocab.json"));
  const std::string merges = read_text_file(folder + "/gpt2_merges.txt");
  std::string lines;
  for (std::size_t at = 0; at < merges.size();) {
    const std::size_t end = std::min(merges.find('\n', at), merges.size());
    const std::string line = merges.substr(at, end - at);
    if (!line.empty()) lines += (lines.empty() ? "" : ",") + Json(line).dump();
    at = end + 1;
  }
  model.set("merges", Json::parse("[" + lines + "]", "merges"));
  const Json byte = Json::parse(R"({"type":"ByteLevel","add_prefix_space":false})", "byte");
  Json document = Json::object();
  document.set("model", model);
  document.set("pre_tokenizer", byte);
  document.set("decoder", byte);
  return Tokenizer::parse(document.dump(), "gpt2");
}

std::vector<std::string> split_text(const std::string& text, const std::string& mark) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, begin)) {
    parts.push_back(text.substr(begin, at - begin));
    begin = at + mark.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

TEST(TokenizerTestData, Gpt2GivesTheIdsOfItsVectors) {
  const char* data = std::getenv("QVLM_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "QVLM_TEST_DATA is not set";
  const std::string folder = std::string(data) + "/tokenizers";
  const Tokenizer tokenizer = load_gpt2(folder);
  const auto texts =
      split_text(read_text_file(folder + "/gpt-2.vectors.inp"), "\n__ggml_vocab_test__\n");
  const auto lines = split_text(read_text_file(folder + "/gpt-2.vectors.out"), "\n");
  ASSERT_GE(lines.size(), texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::istringstream numbers(lines[i]);
    const std::vector<std::int32_t> ids{std::istream_iterator<std::int32_t>(numbers), {}};
    EXPECT_EQ(tokenizer.encode(texts[i], true), ids) << texts[i];
    EXPECT_EQ(tokenizer.decode(ids, true), texts[i]);
  }
}

TEST(TokenizerTestData, MiniMindComesBackWhole) {
  const char* data = std::getenv("QVLM_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "QVLM_TEST_DATA is not set";
  const auto tokenizer = Tokenizer::load(std::string(data) + "/tokenizers/minimind.tokenizer.json");
  EXPECT_EQ(tokenizer.size(), 6400);
  const std::string text = "<|im_start|>user\n\xE4\xBD\xA0\xE5\xA5\xBD, world<|im_end|>\n";
  const std::vector<std::int32_t> ids = tokenizer.encode(text, true);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(tokenizer.decode(ids, false), text);
}

}  // namespace
}  // namespace qvlm
