// The model against transformers on tiny random checkpoints of every layout: tower, projector,
// logits, greedy ids.
#include <gtest/gtest.h>

#include "image/preprocess.h"
#include "model/linear_list.h"
#include "model/tensor_list.h"
#include "model/unit.h"
#include "model/vlm.h"
#include "support/golden.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kCases = fs::path(QVLM_TESTS_DIR) / "data" / "llava";

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kCases)) {
    if (fs::exists(entry.path() / "golden.safetensors")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class ParityTest : public testing::TestWithParam<std::string> {
 protected:
  ParityTest()
      : checkpoint_(Checkpoint::open(kCases / GetParam())),
        config_(load_model_config(checkpoint_)),
        golden_(kCases / GetParam() / "golden.safetensors") {}

  Checkpoint checkpoint_;
  ModelConfig config_;
  Golden golden_;
};

TEST_P(ParityTest, PixelsEqualTransformers) {
  const Json prompts = Json::load(kCases / GetParam() / "golden.json").get("prompts");
  const ProcessorConfig processor = load_processor_config(checkpoint_);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Image image = Image::load(kCases / GetParam() / prompts.at(i).get_string("image"));
    const PixelValues pixels = preprocess(image, processor);
    const at::Tensor planes = at::tensor(pixels.values).reshape({3, pixels.height, pixels.width});
    const std::string prompt = "prompt" + std::to_string(i) + ".";
    expect_parity(prompt + "pixels", planes, golden_.get(prompt + "pixel_values"));
  }
}

TEST_P(ParityTest, EveryStageEqualsTransformers) {
  const Weights root(checkpoint_, Execution::kFloat);
  const VisionTower tower(root.scope("vision_tower"), config_);
  const Projector projector(root.scope("projector"), config_);
  const Vlm model = Vlm::load(checkpoint_, Execution::kFloat);
  for (const std::string prompt : {"prompt0.", "prompt1."}) {
    const at::Tensor features = tower.forward(golden_.get(prompt + "pixel_values"));
    const at::Tensor image = projector.forward(features);
    const std::vector<std::int32_t> ids = golden_.ids(prompt + "input_ids");
    KvCache cache(config_.text, static_cast<std::int64_t>(ids.size()));
    const at::Tensor logits = model.forward(model.embed(ids, {image}), cache, LogitsOf::kAll);
    expect_parity(prompt + "tower", features, golden_.get(prompt + "tower_selected"));
    expect_parity(prompt + "projector", image, golden_.get(prompt + "projector"));
    expect_parity(prompt + "logits", logits, golden_.get(prompt + "logits"));
  }
}

TEST_P(ParityTest, GreedyIdsEqualTransformersStepByStep) {
  const Vlm model = Vlm::load(checkpoint_, Execution::kFloat);
  for (const std::string prompt : {"prompt0.", "prompt1."}) {
    const std::vector<std::int32_t> ids = golden_.ids(prompt + "input_ids");
    const std::vector<std::int32_t> want = golden_.ids(prompt + "generated");
    KvCache cache(config_.text, static_cast<std::int64_t>(ids.size() + want.size()));
    const at::Tensor image = model.encode_image(golden_.get(prompt + "pixel_values"));
    at::Tensor logits =
        model.forward(model.embed(ids, {image}), cache, LogitsOf::kLast).select(0, -1);
    std::vector<std::int32_t> got;
    while (got.size() < want.size()) {
      got.push_back(static_cast<std::int32_t>(logits.argmax().item<std::int64_t>()));
      logits = model.forward(model.embed_token(got.back()), cache, LogitsOf::kLast).squeeze(0);
    }
    EXPECT_EQ(got, want);
  }
}

TEST_P(ParityTest, StreamedUnitsEqualTheWholeModel) {
  std::vector<StreamedSample> samples(2);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::string prompt = "prompt" + std::to_string(i) + ".";
    samples[i].pixels = golden_.get(prompt + "pixel_values");
    samples[i].ids = golden_.ids(prompt + "input_ids");
  }
  const Weights root(checkpoint_, Execution::kFloat);
  for (const Unit& unit : list_units(config_))
    run_unit(unit, root, config_, samples);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const at::Tensor want = golden_.get("prompt" + std::to_string(i) + ".logits");
    EXPECT_LE(relative_difference(samples[i].hidden, want), kParity);
  }
}

TEST_P(ParityTest, ListedLinearsAreThoseInTheFiles) {
  for (const LinearShape& linear : list_linears(config_)) {
    const TensorView weight = checkpoint_.get_tensor(linear.name + ".weight");
    EXPECT_EQ(weight.shape, (std::vector<std::int64_t>{linear.out, linear.in})) << linear.name;
  }
}

// Files hold all that is listed, and beyond it only what nobody reads.
TEST_P(ParityTest, ListedTensorsAreThoseInTheFiles) {
  const auto listed = list_tensors(config_);
  for (const auto& [name, shape] : listed)
    EXPECT_EQ(checkpoint_.get_tensor(name).shape, shape) << name;
  for (const TensorView& tensor : checkpoint_.tensors()) {
    const std::string ours = checkpoint_.names().to_ours(tensor.name);
    EXPECT_TRUE(listed.contains(ours) || is_unread_tensor(ours, config_)) << ours;
  }
}

// What a prompt shares with the previous one is not run again; a prompt run in pieces gives the
// same logits.
TEST_P(ParityTest, PiecewisePrefillEqualsOnePass) {
  const Vlm model = Vlm::load(checkpoint_, Execution::kFloat);
  const std::vector<std::int32_t> ids = golden_.ids("prompt0.input_ids");
  const at::Tensor image = model.encode_image(golden_.get("prompt0.pixel_values"));
  const at::Tensor embeddings = model.embed(ids, {image});
  KvCache cache(config_.text, static_cast<std::int64_t>(ids.size()));
  const std::int64_t cut = embeddings.size(0) / 2;
  model.forward(embeddings, cache, LogitsOf::kAll);
  cache.truncate(cut);
  const at::Tensor rest = model.forward(embeddings.slice(0, cut), cache, LogitsOf::kAll);
  EXPECT_LE(relative_difference(rest, golden_.get("prompt0.logits").slice(0, cut)), kParity);
}

INSTANTIATE_TEST_SUITE_P(Llava,
                         ParityTest,
                         testing::ValuesIn(case_names()),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace qvlm
