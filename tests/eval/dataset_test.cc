#include "eval/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>

#include "eval/protocol.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kGood =
    R"({"id": "a", "image": "i/1.png", "question": "what?", "answer": "red", "type": "open", "category": "colour"})"
    "\n";

class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() { write_file(folder_.path() / "i/1.png", "not looked into"); }

  Dataset load(const std::string& lines) {
    write_file(folder_.path() / "data.jsonl", lines);
    return Dataset::load(folder_.path());
  }
  // The message of the error that loading these lines gives.
  std::string error(const std::string& lines, ErrorKind kind) {
    try {
      load(lines);
    } catch (const Error& found) {
      EXPECT_EQ(found.kind(), kind) << found.what();
      return found.what();
    }
    ADD_FAILURE() << "no error for " << lines;
    return "";
  }

  TemporaryFolder folder_;
};

TEST_F(DatasetTest, ReadsEveryKey) {
  const Dataset data = load(
      std::string(kGood) + "\n  \n" +
      R"({"id": "b", "image": null, "question": "q", "hint": "h", "choices": ["x", "y"], "answer": 1, "type": "mcq"})"
      "\n" +
      R"({"id": "c", "image": ["i/1.png", "i/1.png"], "question": "q", "answer": "no", "type": "yesno"})");
  ASSERT_EQ(data.items.size(), 3U);
  EXPECT_THAT(data.items[0].images, ElementsAre(folder_.path() / "i/1.png"));
  EXPECT_EQ(data.items[0].category, "colour");
  EXPECT_EQ(data.items[0].type, ItemType::kOpen);
  EXPECT_TRUE(data.items[1].images.empty());
  EXPECT_EQ(data.items[1].answer, "y");
  EXPECT_EQ(data.items[1].hint, "h");
  EXPECT_EQ(data.items[2].images.size(), 2U);
}

TEST_F(DatasetTest, AnswersByIndexLetterOrText) {
  const std::string head =
      R"({"id": "a", "image": null, "question": "q", "type": "mcq", "choices": ["B", "other"], )";
  EXPECT_EQ(load(head + R"("answer": 0})").items[0].answer, "B");
  EXPECT_EQ(load(head + R"("answer": "A"})").items[0].answer, "B");
  EXPECT_EQ(load(head + R"("answer": "B"})").items[0].answer,
            "B");  // its text, not the letter of "other"
  EXPECT_EQ(load(head + R"("answer": "other"})").items[0].answer, "other");
  EXPECT_THAT(error(head + R"("answer": 2})", ErrorKind::kCorrupt),
              HasSubstr("data.jsonl:1: answer"));
  EXPECT_THAT(error(head + R"("answer": "C"})", ErrorKind::kCorrupt), HasSubstr("\"C\""));
}

TEST_F(DatasetTest, ErrorsNameFileAndLine) {
  const std::string good = kGood;
  EXPECT_THAT(error(good + R"({"id": "b", "image": null, "answer": "x", "type": "open"})",
                    ErrorKind::kNotFound),
              HasSubstr("data.jsonl:2: the key 'question' is missing"));
  EXPECT_THAT(
      error(
          good +
              R"({"id": "b", "image": "i/2.png", "question": "q", "answer": "x", "type": "open"})",
          ErrorKind::kNotFound),
      ::testing::AllOf(HasSubstr("data.jsonl:2"), HasSubstr("i/2.png"), HasSubstr("missing")));
  EXPECT_THAT(error(good + "\n{\"id\": ", ErrorKind::kCorrupt),
              HasSubstr("data.jsonl:3: not valid JSON"));
  EXPECT_THAT(error(good + good, ErrorKind::kCorrupt),
              HasSubstr("data.jsonl:2: the id 'a' was there before"));
  EXPECT_THAT(
      error(R"({"id": "b", "image": null, "question": "q", "answer": "x", "type": "essay"})",
            ErrorKind::kCorrupt),
      HasSubstr("expected mcq, vqa, yesno or open, got 'essay'"));
  EXPECT_THAT(error("\n \n", ErrorKind::kCorrupt), HasSubstr("there is no item"));
  EXPECT_THAT(error(R"({"id": 7, "image": null, "question": "q", "answer": "x", "type": "open"})",
                    ErrorKind::kCorrupt),
              HasSubstr("id: expected a string"));
}

TEST_F(DatasetTest, RefusesImageTokensInTexts) {
  const std::string head = R"({"id": "b", "image": null, "answer": 0, "type": "mcq", )";
  for (const auto& [what, keys] :
       {std::pair{"question", R"("question": "a <image>", "choices": ["x", "y"]})"},
        {"hint", R"("question": "q", "hint": "<image>", "choices": ["x", "y"]})"},
        {"choice", R"("question": "q", "choices": ["x", "y <image>"]})"}}) {
    EXPECT_THAT(
        error(kGood + head + keys, ErrorKind::kCorrupt),
        HasSubstr(std::string("data.jsonl:2: the ") + what + " contains the image token <image>"));
  }
}

TEST_F(DatasetTest, ChoicesMayRepeat) {
  const Dataset data = load(
      R"({"id": "a", "image": null, "question": "q", "type": "mcq", "choices": ["4", "4"], "answer": 1})");
  EXPECT_EQ(make_options(data)[0].right, "B");
  EXPECT_TRUE(is_correct(data, data.items[0], "B"));
  EXPECT_FALSE(is_correct(data, data.items[0], "A"));
}

TEST_F(DatasetTest, MetaIsOptionalAndChecked) {
  write_file(folder_.path() / "meta.json",
             R"({"name": "n", "split": "test", "protocol": "sqa-lmms"})");
  const Dataset data = load(kGood);
  EXPECT_EQ(data.name, "n");
  EXPECT_EQ(data.split, "test");
  EXPECT_EQ(data.protocol, Protocol::kScienceQaLmms);
  write_file(folder_.path() / "meta.json", R"({"protocol": "pope"})");
  EXPECT_THAT(error(kGood, ErrorKind::kUnsupported), HasSubstr("'pope'"));
  write_file(folder_.path() / "meta.json", R"({"prompt": "no placeholder"})");
  EXPECT_THAT(error(kGood, ErrorKind::kCorrupt), HasSubstr("{question} is missing"));
}

Dataset with_prompt(const std::string& prompt) {
  Dataset data;
  data.prompt = prompt;
  return data;
}

Item multiple_choice() {
  Item item;
  item.type = ItemType::kMultipleChoice;
  item.question = "Which {hint}?";
  item.choices = {"a cat", "a dog"};
  item.answer = "a dog";
  item.right_choice = 1;
  return item;
}

TEST(Protocol, MultipleChoicePrompt) {
  Item item = multiple_choice();
  EXPECT_EQ(make_question({}, item),
            "Which {hint}?\nA. a cat\nB. a dog\nAnswer with the option's letter from the given "
            "choices directly.");
  item.hint = "it barks";
  EXPECT_EQ(make_question(with_prompt("{hint}{question}"), item),
            "Context: it barks\nWhich {hint}?");
}

TEST(Protocol, OtherPrompts) {
  Item item;
  item.question = "is it red?";
  EXPECT_EQ(make_question({}, item), "is it red?");
  item.type = ItemType::kVisualQuestion;
  EXPECT_EQ(make_question({}, item),
            "is it red?\nAnswer the question using a single word or phrase.");
}

TEST(Protocol, ExactTakesTextOrLetter) {
  const Item item = multiple_choice();
  for (const char* right : {"B", "b.", " A Dog. ", "a dog"})
    EXPECT_TRUE(is_correct({}, item, right)) << right;
  for (const char* wrong : {"A", "B. a dog", "dog", "", "a dog.."})
    EXPECT_FALSE(is_correct({}, item, wrong)) << wrong;
  // Without listed options the letter means nothing.
  EXPECT_FALSE(is_correct(with_prompt("{question}"), item, "B"));
}

TEST(Protocol, ScienceQaTakesOnlyTheLetter) {
  Dataset data;
  data.protocol = Protocol::kScienceQaLmms;
  const Item item = multiple_choice();
  for (const char* right : {"B", "B.", "B. a cat", " B\n"})
    EXPECT_TRUE(is_correct(data, item, right)) << right;
  for (const char* wrong : {"b", "a dog", "Because", "A"})
    EXPECT_FALSE(is_correct(data, item, wrong)) << wrong;
}

TEST(Protocol, OptionsOfEachType) {
  Dataset data;
  data.items = {multiple_choice(), {}, {}, {}, {}};
  data.items[1].type = ItemType::kYesNo;
  data.items[1].answer = "no";
  data.items[2].category = data.items[3].category = "colour";
  data.items[2].answer = "red";
  data.items[3].answer = "blue";
  data.items[4].category = "shape";
  data.items[4].answer = "circle";
  const std::vector<Options> options = make_options(data);
  EXPECT_EQ(options[0].right, "B");
  EXPECT_THAT(options[0].all, ElementsAre("A", "B"));
  EXPECT_THAT(options[1].all, ElementsAre("yes", "no"));
  EXPECT_EQ(options[2].right, "red");
  EXPECT_THAT(options[2].all, ElementsAre("blue", "red"));
  EXPECT_THAT(options[4].all, ElementsAre("circle"));
}

}  // namespace
}  // namespace qvlm
