#include "calib/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>

#include <set>

#include "io/sha256.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kGood =
    R"({"image": "i/1.png", "question": "what?", "answer": "red", "id": "other keys are ignored"})"
    "\n";

class ManifestTest : public ::testing::Test {
 protected:
  ManifestTest() { write_file(folder_.path() / "i/1.png", "not looked into"); }

  Manifest load(const std::string& lines) {
    return Manifest::load(write_file(folder_.path() / "calib.jsonl", lines));
  }
  // The message of the error that these lines give behind a good one.
  std::string error(const std::string& lines, ErrorKind kind = ErrorKind::kCorrupt) {
    try {
      load(kGood + lines);
    } catch (const Error& found) {
      EXPECT_EQ(found.kind(), kind) << found.what();
      return found.what();
    }
    ADD_FAILURE() << "no error for " << lines;
    return "";
  }

  TemporaryFolder folder_;
};

TEST_F(ManifestTest, ReadsBothForms) {
  const Manifest manifest = load(
      std::string(kGood) + "\n \r\n" +
      R"({"image": null, "turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"},)"
      R"( {"role": "user", "text": "c"}, {"role": "assistant", "text": "d"}]})"
      "\r\n" +
      R"({"image": ["i/1.png", "i/1.png"], "question": "", "answer": "x"})");
  ASSERT_EQ(manifest.items.size(), 3U);
  const CalibrationItem& first = manifest.items[0];
  EXPECT_EQ(first.where, (folder_.path() / "calib.jsonl").string() + ":1");
  EXPECT_THAT(first.images, ElementsAre(folder_.path() / "i/1.png"));
  ASSERT_EQ(first.turns.size(), 1U);
  EXPECT_EQ(first.turns[0].role, Role::kUser);
  EXPECT_EQ(first.turns[0].text, "what?");
  EXPECT_EQ(first.turns[0].images, 1);
  EXPECT_EQ(first.answer, "red");

  const CalibrationItem& second = manifest.items[1];
  EXPECT_THAT(second.where, ::testing::EndsWith("calib.jsonl:4"));
  EXPECT_TRUE(second.images.empty());
  EXPECT_EQ(render_llava_prompt(second.turns), "USER: a ASSISTANT: b USER: c ASSISTANT:");
  EXPECT_EQ(second.answer, "d");
  EXPECT_EQ(manifest.items[2].turns[0].images, 2);
}

TEST_F(ManifestTest, ReadsAFolder) {
  write_file(folder_.path() / "data.jsonl", kGood);
  const Manifest manifest = Manifest::load(folder_.path());
  EXPECT_EQ(manifest.file, folder_.path() / "data.jsonl");
  ASSERT_EQ(manifest.items.size(), 1U);
  EXPECT_THAT(manifest.items[0].images, ElementsAre(folder_.path() / "i/1.png"));
}

TEST_F(ManifestTest, ErrorsNameFileLineAndKey) {
  EXPECT_THAT(error("{\"image\": "), HasSubstr("calib.jsonl:2: not valid JSON"));
  EXPECT_THAT(error("[1]"), HasSubstr("calib.jsonl:2: expected an object"));
  EXPECT_THAT(error(R"({"question": "q", "answer": "a"})", ErrorKind::kNotFound),
              HasSubstr("calib.jsonl:2: the key 'image' is missing"));
  EXPECT_THAT(error(R"({"image": 3, "question": "q", "answer": "a"})"),
              HasSubstr("calib.jsonl:2: image: expected a string"));
  EXPECT_THAT(
      error(R"({"image": "i/2.png", "question": "q", "answer": "a"})", ErrorKind::kNotFound),
      AllOf(HasSubstr("calib.jsonl:2: image"), HasSubstr("i/2.png"), HasSubstr("missing")));
  EXPECT_THAT(
      error(R"({"image": null, "answer": "a"})"),
      HasSubstr("calib.jsonl:2: expected either question and answer or turns, got neither"));
  EXPECT_THAT(error(R"({"image": null, "question": "q", "answer": "a", "turns": []})"),
              HasSubstr("got both"));
  EXPECT_THAT(error(R"({"image": null, "question": "q"})", ErrorKind::kNotFound),
              HasSubstr("calib.jsonl:2: the key 'answer' is missing"));
  EXPECT_THAT(error(R"({"image": null, "question": "q", "answer": 1})"),
              HasSubstr("calib.jsonl:2: answer: expected a string"));
  EXPECT_THAT(error(R"({"image": null, "question": "q", "answer": ""})"),
              HasSubstr("calib.jsonl:2: the answer is empty"));
}

TEST_F(ManifestTest, TurnsMustAlternate) {
  const auto turns = [&](const std::string& list, ErrorKind kind = ErrorKind::kCorrupt) {
    return error(R"({"image": null, "turns": )" + list + "}", kind);
  };
  const std::string user = R"({"role": "user", "text": "q"})";
  const std::string assistant = R"({"role": "assistant", "text": "a"})";
  EXPECT_THAT(turns("\"q\""), HasSubstr("calib.jsonl:2: turns: expected an array"));
  EXPECT_THAT(turns("[]"), HasSubstr("calib.jsonl:2: turns: expected the assistant's answer"));
  EXPECT_THAT(turns("[" + user + "]"), HasSubstr("at the end, got 1 turns"));
  EXPECT_THAT(turns("[" + assistant + "]"),
              HasSubstr("calib.jsonl:2: turns[0].role: turns alternate and the user begins: "
                        "expected user, got 'assistant'"));
  EXPECT_THAT(turns("[" + user + "," + user + "]"),
              HasSubstr("turns[1].role: turns alternate and the user begins: expected assistant, "
                        "got 'user'"));
  EXPECT_THAT(turns(R"([{"role": "system", "text": "s"}])"), HasSubstr("got 'system'"));
  EXPECT_THAT(turns("[" + user + R"(, {"role": "assistant"}])", ErrorKind::kNotFound),
              HasSubstr("calib.jsonl:2: turns[1]: the key 'text' is missing"));
  EXPECT_THAT(turns("[" + user + R"(, {"role": "assistant", "text": ""}])"),
              HasSubstr("calib.jsonl:2: the answer is empty"));
}

TEST_F(ManifestTest, RefusesImageTokensInTexts) {
  EXPECT_THAT(error(R"({"image": null, "question": "a <image>", "answer": "a"})"),
              HasSubstr("calib.jsonl:2: the question contains the image token <image>"));
  EXPECT_THAT(error(R"({"image": null, "question": "q", "answer": "<image>"})"),
              HasSubstr("calib.jsonl:2: the answer contains the image token <image>"));
  EXPECT_THAT(error(R"({"image": null, "turns": [{"role": "user", "text": "<image>"}]})"),
              HasSubstr("calib.jsonl:2: turns[0]: the text contains the image token <image>"));
}

TEST_F(ManifestTest, RefusesWhatIsNoManifest) {
  const auto kind_of = [](const std::filesystem::path& data) {
    try {
      Manifest::load(data);
    } catch (const Error& found) {
      return found.kind();
    }
    return ErrorKind::kInternal;
  };
  EXPECT_EQ(kind_of(folder_.path() / "none.jsonl"), ErrorKind::kNotFound);
  EXPECT_EQ(kind_of(folder_.path()), ErrorKind::kNotFound);  // no data.jsonl in it
  EXPECT_EQ(kind_of(write_file(folder_.path() / "blank.jsonl", "\n \n")), ErrorKind::kCorrupt);
}

TEST_F(ManifestTest, HashIsThatOfTheTextAndTheImages) {
  const std::string line = R"({"image": null, "question": "q", "answer": "a"})";
  const std::string lines = kGood + line;
  const std::string before = load(lines).sha256;
  // What `sha256sum calib.jsonl i/1.png | cut -c1-64 | sha256sum` prints.
  EXPECT_EQ(before, sha256(sha256(std::string_view(lines)) + "\n" +
                           sha256(std::string_view("not looked into")) + "\n"));
  EXPECT_EQ(load(lines).sha256, before);
  EXPECT_NE(load(lines + "\n").sha256, before);
  write_file(folder_.path() / "i/1.png", "Not looked into");
  EXPECT_NE(load(lines).sha256, before);
}

std::vector<std::string> answers(const std::vector<CalibrationItem>& items) {
  std::vector<std::string> texts;
  for (const CalibrationItem& item : items)
    texts.push_back(item.answer);
  return texts;
}

TEST(ManifestSample, DrawsWithoutRepetitionBySeed) {
  Manifest manifest;
  for (int i = 0; i < 20; ++i) {
    manifest.items.emplace_back();
    manifest.items.back().answer = std::to_string(i);
  }
  const std::vector<std::string> drawn = answers(manifest.sample(8, 3));
  EXPECT_EQ(drawn.size(), 8U);
  EXPECT_EQ(std::set<std::string>(drawn.begin(), drawn.end()).size(), 8U);
  EXPECT_EQ(answers(manifest.sample(8, 3)), drawn);
  EXPECT_NE(answers(manifest.sample(8, 4)), drawn);

  // A larger draw begins with the smaller one.
  const std::vector<std::string> all = answers(manifest.sample(100, 3));
  EXPECT_EQ(std::vector<std::string>(all.begin(), all.begin() + 8), drawn);
  EXPECT_THAT(all, ::testing::UnorderedElementsAreArray(answers(manifest.items)));
  EXPECT_TRUE(manifest.sample(0, 3).empty());
  EXPECT_THROW(manifest.sample(-1, 3), Error);
}

// Every item is as likely as any other: 2000 draws of 5 of 20 take each one 500 times on average,
// with a standard deviation of sqrt(2000 * 1/4 * 3/4) = 19.4; five of them are allowed.
TEST(ManifestSample, DrawsEveryItemEquallyOften) {
  Manifest manifest;
  manifest.items.resize(20);
  for (std::size_t i = 0; i < 20; ++i)
    manifest.items[i].answer = std::to_string(i);
  std::vector<int> counts(20);
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    for (const CalibrationItem& item : manifest.sample(5, seed))
      ++counts[std::stoul(item.answer)];
  }
  for (const int count : counts)
    EXPECT_NEAR(count, 500, 97);
}

}  // namespace
}  // namespace qvlm
