#include "io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "support/broken_files.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

struct Layout {
  std::string vision, projector, decoder, head;
};

// The kind and the text that opening a folder fails with.
std::pair<ErrorKind, std::string> failure_of(const std::filesystem::path& folder) {
  try {
    Checkpoint::open(folder);
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  ADD_FAILURE() << "the folder was accepted";
  return {};
}

// A file with the named tensors, U8 [1] each.
void write_tensors(const std::filesystem::path& file, const std::vector<std::string>& names) {
  std::vector<TensorInfo> tensors;
  for (const std::string& name : names)
    tensors.push_back({name, DType::kU8, {1}});
  SafetensorsWriter writer(file, tensors, {});
  const std::byte one{1};
  for (const std::string& name : names)
    writer.write(name, std::span(&one, 1));
  writer.commit();
}

TEST(NameMap, FindsEveryLayout) {
  const std::vector<Layout> layouts = {
      {"vision_tower.vision_model.", "multi_modal_projector.", "language_model.model.",
       "language_model.lm_head."},
      {"model.vision_tower.vision_model.", "model.multi_modal_projector.", "model.language_model.",
       "lm_head."},
      {"model.vision_tower.", "model.multi_modal_projector.", "model.language_model.", "lm_head."},
      {"vision_tower.", "multi_modal_projector.", "language_model.", "language_model.lm_head."},
  };
  for (const Layout& layout : layouts) {
    const std::string fc1 = "encoder.layers.0.mlp.fc1.weight";
    const std::vector<std::string> files = {layout.vision + fc1, layout.projector + "linear_1.bias",
                                            layout.decoder + "norm.weight", layout.head + "weight"};
    const std::vector<std::string> ours = {"vision_tower." + fc1, "projector.linear_1.bias",
                                           "decoder.norm.weight", "lm_head.weight"};
    const NameMap map = NameMap::detect(files);
    for (std::size_t i = 0; i < files.size(); ++i) {
      EXPECT_EQ(map.to_ours(files[i]), ours[i]);
      EXPECT_EQ(map.to_file(ours[i]), files[i]);
    }
    EXPECT_EQ(map.to_ours("image_newline"), "image_newline");
    EXPECT_EQ(map.module_to_file("lm_head") + ".", layout.head);
    EXPECT_THAT(NameMap::all_module_spellings("decoder.layers.0"),
                Contains(layout.decoder + "layers.0"));
  }
}

TEST(NameMap, AMissingHeadFollowsTheDecoder) {
  const NameMap hub = NameMap::detect({"language_model.model.norm.weight"});
  EXPECT_EQ(hub.to_file("lm_head.weight"), "language_model.lm_head.weight");
  const NameMap runtime = NameMap::detect({"model.language_model.norm.weight"});
  EXPECT_EQ(runtime.to_file("lm_head.weight"), "lm_head.weight");
}

TEST(Checkpoint, SaysWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_EQ(failure_of(folder.path() / "nowhere").first, ErrorKind::kNotFound);
  EXPECT_THAT(failure_of(folder.path()).second, HasSubstr("config.json"));
  write_text_file(folder.path() / "config.json", "{}");
  const auto [kind, text] = failure_of(folder.path());
  EXPECT_EQ(kind, ErrorKind::kNotFound);
  EXPECT_THAT(text, HasSubstr("model.safetensors.index.json"));
}

class ShardsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_text_file(folder_.path() / "config.json", "{}");
    write_tensors(folder_.path() / "one.safetensors", {"language_model.model.norm.weight"});
    write_tensors(folder_.path() / "two.safetensors", {"language_model.lm_head.weight"});
  }
  void write_index(const std::string& weight_map) {
    write_text_file(folder_.path() / "model.safetensors.index.json",
                    R"({"weight_map":)" + weight_map + "}");
  }
  TemporaryFolder folder_;
};

TEST_F(ShardsTest, OpensBothShards) {
  write_index(R"({"language_model.model.norm.weight":"one.safetensors",
                  "language_model.lm_head.weight":"two.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.get_tensor("decoder.norm.weight").name, "language_model.model.norm.weight");
  EXPECT_FALSE(checkpoint.find_tensor("decoder.embed_tokens.weight"));
  try {
    checkpoint.get_tensor("decoder.embed_tokens.weight");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("'language_model.model.embed_tokens.weight'"));
  }
}

TEST_F(ShardsTest, RefusesAnIndexThatLies) {
  const auto expect = [&](const std::string& weight_map, ErrorKind kind, const std::string& word) {
    write_index(weight_map);
    const auto failure = failure_of(folder_.path());
    EXPECT_EQ(failure.first, kind) << failure.second;
    EXPECT_THAT(failure.second, HasSubstr(word));
  };
  expect(R"({"a":"three.safetensors"})", ErrorKind::kNotFound, "three.safetensors");
  expect(R"({"a":"one.safetensors"})", ErrorKind::kNotFound, "'a'");
  expect(R"({"a":"../one.safetensors"})", ErrorKind::kCorrupt, "plain file name");
  expect(R"({"language_model.lm_head.weight":"one.safetensors",
             "language_model.model.norm.weight":"two.safetensors"})",
         ErrorKind::kCorrupt, "but it is in");
  expect("{}", ErrorKind::kCorrupt, "lists no tensors");
}

TEST_F(ShardsTest, RefusesATensorInTwoShards) {
  write_tensors(folder_.path() / "two.safetensors", {"language_model.model.norm.weight", "b"});
  write_index(R"({"language_model.model.norm.weight":"one.safetensors","b":"two.safetensors"})");
  const auto [kind, text] = failure_of(folder_.path());
  EXPECT_EQ(kind, ErrorKind::kCorrupt);
  EXPECT_THAT(text, HasSubstr("'language_model.model.norm.weight' is in both"));
}

}  // namespace
}  // namespace qvlm
