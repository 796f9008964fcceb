// The bundled model against transformers, from image file and question to text
// (tests/data/bundled).
#include <gtest/gtest.h>

#include "base/json.h"
#include "image/preprocess.h"
#include "io/sha256.h"
#include "runtime/engine.h"
#include "support/golden.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(QVLM_SOURCE_DIR) / "models" / "reference-llava";
const fs::path kGolden = fs::path(QVLM_TESTS_DIR) / "data" / "bundled";

class BundledTest : public testing::Test {
 protected:
  BundledTest()
      : facts_(Json::load(kGolden / "golden.json")), golden_(kGolden / "golden.safetensors") {}

  // Calls check("prompt0.", {image, question, answer ...}) for each prompt of the golden.
  void for_each_prompt(const std::function<void(const std::string&, const Json&)>& check) const {
    const Json prompts = facts_.get("prompts");
    EXPECT_GE(prompts.size(), 3u);
    for (std::size_t i = 0; i < prompts.size(); ++i)
      check("prompt" + std::to_string(i) + ".", prompts.at(i));
  }

  Json facts_;
  Golden golden_;
};

TEST_F(BundledTest, GoldenIsOfTheseWeights) {
  EXPECT_GE(facts_.get("sha256").size(), 1u);
  facts_.get("sha256").for_each([](const std::string& file, const Json& sum) {
    EXPECT_EQ(sha256_file(kModel / file), sum.as_string())
        << "run scripts/make_goldens.py --bundled";
  });
}

TEST_F(BundledTest, EveryStageEqualsTransformers) {
  const c10::InferenceMode inference;
  const Engine engine = Engine::load(kModel, Execution::kFloat);
  const Checkpoint checkpoint = Checkpoint::open(kModel);
  const VisionTower tower(Weights(checkpoint, Execution::kFloat).scope("vision_tower"),
                          engine.model().config());
  const ProcessorConfig processor = load_processor_config(checkpoint);
  for_each_prompt([&](const std::string& prompt, const Json& facts) {
    const Image image = Image::load(kModel / facts.get_string("image"));
    const PixelValues pixels = preprocess(image, processor);
    const at::Tensor planes = at::tensor(pixels.values).reshape({3, pixels.height, pixels.width});
    const at::Tensor projected = engine.encode_image(image);
    const std::vector<std::int32_t> ids =
        engine.encode_prompt({{Role::kUser, facts.get_string("question"), 1}});
    EXPECT_EQ(ids, golden_.ids(prompt + "input_ids"));
    Sequence sequence(engine, static_cast<std::int64_t>(ids.size()), KvFormat::kFloat32);
    const at::Tensor logits = sequence.prefill(ids, {projected}).select(0, -1);
    expect_parity(prompt + "pixels", planes, golden_.get(prompt + "pixel_values"));
    expect_parity(prompt + "tower", tower.forward(planes), golden_.get(prompt + "tower_selected"));
    expect_parity(prompt + "projector", projected, golden_.get(prompt + "projector"));
    expect_parity(prompt + "logits", logits, golden_.get(prompt + "last_logits"));
  });
}

TEST_F(BundledTest, AnswersEqualTransformers) {
  const Session session = Session::open(kModel);
  for_each_prompt([&](const std::string&, const Json& facts) {
    std::string streamed;
    const Reply reply = session.generate(
        {facts.get_string("question"), {Image::load(kModel / facts.get_string("image"))}}, {},
        [&](std::string_view piece) {
          streamed += piece;
          return true;
        });
    EXPECT_EQ(reply.text, facts.get_string("answer"));
    EXPECT_EQ(streamed, reply.text);
    EXPECT_EQ(reply.stop_reason, StopReason::kEndToken);
  });
}

}  // namespace
}  // namespace qvlm
