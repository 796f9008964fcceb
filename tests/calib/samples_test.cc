// Manifest items as a tiny random model takes them. Its tokenizer has an id a byte, and one token
// for a blank with the first letter of some answers (support/tiny_model.h).
#include "calib/samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>

#include "model/prompt_encoder.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr std::int32_t kEnd = 2;  // every generation_config.json of tests/data/llava says so

class SamplesTest : public ::testing::Test {
 protected:
  SamplesTest() {
    make_tiny_model(model(), "runtime_gqa");
    make_tiny_data(folder_.path() / "data");
  }

  std::filesystem::path model() const { return folder_.path() / "model"; }
  PromptEncoder encoder() const { return PromptEncoder::load(Checkpoint::open(model())); }
  std::vector<CalibrationItem> items(const std::string& lines) const {
    return Manifest::load(write_file(folder_.path() / "data/calib.jsonl", lines)).items;
  }
  CalibrationSamples load(const std::string& lines) const {
    return load_samples(model(), items(lines));
  }
  std::string error(const std::string& lines, ErrorKind kind) const {
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

constexpr const char* kThree =
    R"({"image": "images/a.png", "question": "what colour?", "answer": "red"}
{"image": null, "question": "what is round?", "answer": "ball"}
{"image": "images/b.png", "turns": [{"role": "user", "text": "hi"}, {"role": "assistant", "text": "yes"}, {"role": "user", "text": "shape?"}, {"role": "assistant", "text": "not round"}]}
)";

// Ids of one kind, in order.
std::vector<std::int32_t> ids_of(const CalibrationSamples& samples,
                                 std::size_t sample,
                                 TokenKind kind) {
  const std::vector<std::int32_t>& ids = samples.samples[sample].ids;
  EXPECT_EQ(samples.kinds[sample].size(), ids.size());
  std::vector<std::int32_t> found;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (samples.kinds[sample][i] == kind) found.push_back(ids[i]);
  return found;
}

TEST_F(SamplesTest, IdsAreThoseOfTheRenderedConversation) {
  const CalibrationSamples samples = load(kThree);
  const PromptEncoder prompts = encoder();
  const auto image = static_cast<std::int32_t>(prompts.config().image_token_id);
  const std::vector<std::string> rendered = {
      "USER: <image>\nwhat colour? ASSISTANT: red", "USER: what is round? ASSISTANT: ball",
      "USER: <image>\nhi ASSISTANT: yes USER: shape? ASSISTANT: not round"};
  ASSERT_EQ(samples.samples.size(), rendered.size());
  for (std::size_t i = 0; i < rendered.size(); ++i) {
    std::vector<std::int32_t> want;
    for (const std::int32_t id : prompts.tokenizer().encode(rendered[i], true)) {
      const auto copies = id == image ? prompts.config().image_tokens() : 1;
      want.insert(want.end(), static_cast<std::size_t>(copies), id);
    }
    want.push_back(kEnd);
    EXPECT_EQ(samples.samples[i].ids, want) << rendered[i];
  }
}

TEST_F(SamplesTest, KindsMatchIds) {
  const CalibrationSamples samples = load(kThree);
  const PromptEncoder prompts = encoder();
  const ModelConfig& config = prompts.config();
  const std::vector<std::string> answers = {" red", " ball", " not round"};
  CalibrationReport counted;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto images = ids_of(samples, i, TokenKind::kImage);
    EXPECT_THAT(images, Each(config.image_token_id));
    EXPECT_EQ(images.size(), i == 1 ? 0U : static_cast<std::size_t>(config.image_tokens()));
    const auto text = ids_of(samples, i, TokenKind::kText);
    EXPECT_TRUE(prompts.tokenizer().decode(text, true).ends_with(" ASSISTANT:"));
    auto answer = ids_of(samples, i, TokenKind::kAnswer);
    counted.image_tokens += static_cast<std::int64_t>(images.size());
    counted.text_tokens += static_cast<std::int64_t>(text.size());
    counted.answer_tokens += static_cast<std::int64_t>(answer.size());
    EXPECT_EQ(answer.back(), kEnd);
    answer.pop_back();
    EXPECT_EQ(prompts.tokenizer().decode(answer, true), answers[i]);
    const std::vector<TokenKind> end(samples.kinds[i].end() - std::ssize(answer) - 1,
                                     samples.kinds[i].end());
    EXPECT_THAT(end, Each(TokenKind::kAnswer));
  }
  counted.samples = 3;
  counted.data_sha256 = "of the manifest";
  EXPECT_EQ(describe_samples(samples, {.sha256 = "of the manifest"}), counted);
  std::size_t positions = 0;
  for (const StreamedSample& sample : samples.samples)
    positions += sample.ids.size();
  EXPECT_EQ(counted.tokens(), static_cast<std::int64_t>(positions));
}

TEST_F(SamplesTest, PixelsAreThoseOfTheImage) {
  const CalibrationSamples samples = load(kThree);
  const PromptEncoder prompts = encoder();
  const auto pixels = [&](const char* name) {
    return prompts.pixels(Image::load(folder_.path() / "data/images" / name));
  };
  const std::int64_t size = prompts.config().vision.image_size;
  EXPECT_EQ(samples.samples[0].pixels.sizes(), (std::vector<std::int64_t>{3, size, size}));
  EXPECT_TRUE(at::equal(samples.samples[0].pixels, pixels("a.png")));
  EXPECT_FALSE(samples.samples[1].pixels.defined());
  EXPECT_TRUE(at::equal(samples.samples[2].pixels, pixels("b.png")));
}

TEST_F(SamplesTest, ErrorsNameTheItem) {
  const std::string question(300, 'x');  // one id a byte, 256 positions
  const std::string good = R"({"image": null, "question": "q", "answer": "a"})"
                           "\n";
  EXPECT_THAT(error(good + R"({"image": null, "question": ")" + question + R"(", "answer": "a"})",
                    ErrorKind::kInvalidArgument),
              AllOf(HasSubstr("calib.jsonl:2: "), HasSubstr("the model has 256")));
  EXPECT_THAT(error(good + R"({"image": ["images/a.png", "images/b.png"], "question": "q", )"
                           R"("answer": "a"})",
                    ErrorKind::kUnsupported),
              HasSubstr("calib.jsonl:2: calibration takes one image an item, got 2"));
  write_file(folder_.path() / "data/images/b.png", "no picture");
  EXPECT_THAT(error(kThree, ErrorKind::kCorrupt),
              AllOf(HasSubstr("calib.jsonl:3: "), HasSubstr("images/b.png")));
}

// The end token counts: what fits without it may not fit with it.
TEST_F(SamplesTest, TheLongestConversationThatFits) {
  const auto lines = [](std::size_t letters) {
    return R"({"image": null, "question": ")" + std::string(letters, 'x') + R"(", "answer": "a"})";
  };
  const std::size_t others = load(lines(1)).samples[0].ids.size() - 1;
  EXPECT_EQ(load(lines(256 - others)).samples[0].ids.size(), 256U);
  EXPECT_THAT(error(lines(257 - others), ErrorKind::kInvalidArgument), HasSubstr("takes 257"));
}

TEST_F(SamplesTest, RefusesAnEndTokenOutsideTheVocabulary) {
  write_file(model() / "generation_config.json", R"({"eos_token_id": 296})");
  EXPECT_THAT(error(kThree, ErrorKind::kCorrupt), HasSubstr("eos_token_id: expected one of 296"));
}

}  // namespace
}  // namespace qvlm
