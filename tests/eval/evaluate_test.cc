// evaluate() on a random model: what must hold whatever the model says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>
#include <qvlm/evaluate.h>

#include <cstring>

#include "base/parallel.h"
#include "eval/logits_file.h"
#include "eval/protocol.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EvaluateTest : public ::testing::Test {
 protected:
  EvaluateTest() {
    make_tiny_model(model(), "runtime_gqa");
    make_tiny_data(data());
  }
  ~EvaluateTest() override { set_thread_count(0); }

  std::filesystem::path model() const { return folder_.path() / "model"; }
  std::filesystem::path data() const { return folder_.path() / "data"; }
  Report run(const std::string& logits = "", std::int64_t items = 0) const {
    EvaluateOptions options;
    options.items = items;
    if (!logits.empty()) options.logits_file = folder_.path() / logits;
    return evaluate(model(), data(), options);
  }
  template <typename Function>
  std::string error_of(ErrorKind kind, Function&& function) {
    try {
      function();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  TemporaryFolder folder_;
};

TEST_F(EvaluateTest, ThreadsChangeNothing) {
  set_thread_count(1);
  const Report one = run("one.safetensors");
  set_thread_count(2);
  const Report two = run("two.safetensors");
  ASSERT_EQ(one.items.size(), 7U);
  const LogitsFile one_logits(one.logits_file), two_logits(two.logits_file);
  for (std::size_t i = 0; i < one.items.size(); ++i) {
    EXPECT_EQ(one.items[i].id, std::to_string(i + 1));
    EXPECT_EQ(one.items[i].prediction, two.items[i].prediction);
    EXPECT_EQ(one.items[i].margin, two.items[i].margin);
    const auto row = static_cast<std::int64_t>(i);
    EXPECT_THAT(one_logits.row(row), ::testing::ElementsAreArray(two_logits.row(row)));
  }
}

TEST_F(EvaluateTest, AnswersAsASessionDoes) {
  const Report report = run();
  const Session session = Session::open(model());
  const Dataset dataset = Dataset::load(data());
  for (std::size_t i = 0; i < dataset.items.size(); ++i) {
    Question question;
    question.text = make_question(dataset, dataset.items[i]);
    for (const auto& file : dataset.items[i].images)
      question.images.push_back(Image::load(file));
    GenerateOptions options;
    options.max_new_tokens = 8;
    EXPECT_EQ(report.items[i].prediction, trim(session.generate(question, options).text)) << i;
  }
}

TEST_F(EvaluateTest, MarginsAreBetweenFirstTokensOfOptions) {
  const Report report = run("l.safetensors");
  const LogitsFile logits(report.logits_file);
  const auto margin = [&](std::int64_t row, char right, char other) {
    const auto logit = [&](char letter) {
      const std::size_t id = kFirstMergedToken + kFirstLetters.find(letter);
      return static_cast<double>(logits.row(row)[id]);
    };
    return logit(right) - logit(other);
  };
  EXPECT_EQ(report.items[0].margin, margin(0, 'r', 'b'));  // the answers of its category: red, blue
  EXPECT_EQ(report.items[1].margin, margin(1, 'b', 'r'));
  EXPECT_EQ(report.items[2].margin, margin(2, 'y', 'n'));
  EXPECT_EQ(report.items[3].margin, margin(3, 'n', 'y'));
  EXPECT_EQ(report.items[4].margin, margin(4, 'B', 'A'));  // the letters of its choices
}

TEST_F(EvaluateTest, TellsWhatAComparisonNeeds) {
  EvaluateOptions options;
  options.hashes = true;
  options.speed = true;
  const Report report = evaluate(model(), data(), options);
  EXPECT_EQ(report.speed->prefill.size(), report.speed->decode.size());
  for (const double ratio : report.speed->decode)
    EXPECT_GT(ratio, 0.0);
  EXPECT_GT(report.weight_bytes, 0);
  EXPECT_GT(report.kv_bytes, 0);
  const ItemResult& colour = report.items[0];
  EXPECT_THAT(colour.options, ::testing::ElementsAre("blue", "red"));
  EXPECT_EQ(static_cast<double>(colour.option_logits[1]) - colour.option_logits[0], colour.margin);
  EXPECT_EQ(colour.images.size(), 1U);
  EXPECT_EQ(report.identity.threads, thread_count());
  const std::string model_before = report.identity.model_sha256;
  const std::string data_before = report.identity.data_sha256;
  EXPECT_EQ(model_before.size(), 64U);
  write_file(model() / "generation_config.json", "{}");
  options.speed = false;
  const Report other_model = evaluate(model(), data(), options);
  EXPECT_NE(other_model.identity.model_sha256, model_before);
  EXPECT_EQ(other_model.identity.data_sha256, data_before);
  options.items = 1;  // fewer images
  EXPECT_NE(evaluate(model(), data(), options).identity.data_sha256, data_before);
  EXPECT_TRUE(run().identity.model_sha256.empty());
}

TEST_F(EvaluateTest, FirstItemsAreTheSameItems) {
  const Report all = run("all.safetensors"), some = run("some.safetensors", 4);
  ASSERT_EQ(some.items.size(), 4U);
  const LogitsFile all_logits(all.logits_file), some_logits(some.logits_file);
  EXPECT_EQ(some_logits.rows(), 4);
  EXPECT_EQ(some_logits.vocab(), 296);
  for (std::int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(some.items[static_cast<std::size_t>(i)].prediction,
              all.items[static_cast<std::size_t>(i)].prediction);
    EXPECT_THAT(some_logits.row(i), ::testing::ElementsAreArray(all_logits.row(i)));
  }
}

TEST_F(EvaluateTest, ReportsProgressAndCost) {
  std::int64_t last = 0;
  const Report report = evaluate(model(), data(), {}, [&](const Progress& progress) {
    EXPECT_GT(progress.done, last);
    EXPECT_EQ(progress.total, 7);
    last = progress.done;
  });
  EXPECT_EQ(last, 7);
  EXPECT_EQ(report.protocol, "exact");
  EXPECT_EQ(report.execution, "packed");
  EXPECT_GT(report.checkpoint_bytes, 100000);
  EXPECT_GT(report.peak_memory_bytes, report.checkpoint_bytes);
  EXPECT_GT(report.seconds, 0.0);
}

TEST_F(EvaluateTest, StopsWhenProgressThrows) {
  struct Enough {};
  EXPECT_THROW(evaluate(model(), data(), {}, [](const Progress&) { throw Enough(); }), Enough);
}

TEST_F(EvaluateTest, RefusesDamagedLogits) {
  edit_weights(model() / "model.safetensors", [](auto& tensors) {
    // Finite, but every logit overflows, half of them upwards.
    EditedTensor& head = find_tensor(tensors, "lm_head.weight");
    for (std::size_t at = 0; at < head.bytes.size(); at += sizeof(float)) {
      const float value = at / sizeof(float) / 32 % 2 == 0 ? 3e38F : -3e38F;  // hidden size 32
      std::memcpy(head.bytes.data() + at, &value, sizeof(value));
    }
  });
  EXPECT_THAT(error_of(ErrorKind::kCorrupt, [&] { run("l.safetensors"); }),
              AllOf(HasSubstr("item '"), HasSubstr("damaged")));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "l.safetensors"));
}

TEST_F(EvaluateTest, AnswersEndAtTheLastPosition) {
  EvaluateOptions options;
  options.max_new_tokens = 1000;  // the model has 256 positions
  const Report report = evaluate(model(), data(), options);
  EXPECT_EQ(report.items.size(), 7U);
  EXPECT_EQ(report.max_new_tokens, 1000);
}

TEST_F(EvaluateTest, ReferenceIsCheckedBeforeTheModel) {
  Report reference = run("l.safetensors");
  EvaluateOptions options;
  options.reference = &reference;
  const auto refused = [&](const std::filesystem::path& folder) {
    return error_of(ErrorKind::kInvalidArgument, [&] { evaluate(folder, data(), options); });
  };
  options.logits_file = folder_.path() / "model/../l.safetensors";
  EXPECT_THAT(refused("no such model"), HasSubstr("those of the reference"));
  options.logits_file.clear();
  options.max_new_tokens = 9;
  EXPECT_THAT(refused("no such model"), HasSubstr("max_new_tokens 9"));
  options.max_new_tokens = 8;
  reference.protocol = "sqa-lmms";
  EXPECT_THAT(refused("no such model"), HasSubstr("different protocols"));
  reference.protocol = "exact";
  reference.items[2].id = "x";
  EXPECT_THAT(refused("no such model"), HasSubstr("did not run the same items"));
}

TEST_F(EvaluateTest, ErrorsNameTheCause) {
  write_file(data() / "images/b.png", "no picture");
  EXPECT_THAT(error_of(ErrorKind::kCorrupt, [&] { run(); }), HasSubstr("images/b.png"));
  const std::string question(300, 'x');  // one id a byte, 256 positions
  write_file(data() / "data.jsonl", R"({"id": "long one", "image": null, "question": ")" +
                                        question + R"(", "answer": "x", "type": "open"})");
  EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { run(); }), HasSubstr("item 'long one'"));
  EvaluateOptions none;
  none.max_new_tokens = 0;
  error_of(ErrorKind::kInvalidArgument, [&] { evaluate(model(), data(), none); });
}

}  // namespace
}  // namespace qvlm
