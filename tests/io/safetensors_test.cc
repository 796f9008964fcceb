#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "support/broken_files.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Safetensors, RefusesEveryBrokenFileByName) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "broken.safetensors";
  for (const BrokenSafetensors& broken : make_broken_safetensors()) {
    write_text_file(path, broken.bytes);
    try {
      const SafetensorsFile file(path);
      ADD_FAILURE() << broken.name << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt) << broken.name;
      EXPECT_THAT(error.what(), HasSubstr("broken.safetensors")) << broken.name;
      EXPECT_THAT(error.what(), HasSubstr(broken.word)) << broken.name;
    }
  }
}

TEST(Safetensors, MissingFileIsNotFound) {
  try {
    const SafetensorsFile file("/nowhere/model.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  }
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "model.safetensors";
  const std::vector<float> values = {1.5f, -2.0f, 3.25f};
  const std::vector<std::int64_t> sizes = {7, 9};
  SafetensorsWriter writer(path,
                           {{"z.weight", DType::kF32, {3, 1}},
                            {"none", DType::kBF16, {0, 4}},
                            {"a.shape", DType::kI64, {2}},
                            {"scalar", DType::kU8, {}}},
                           {{"format", "pt"}});
  writer.write("z.weight", std::as_bytes(std::span(values)));
  writer.write("none", {});
  writer.write("a.shape", std::as_bytes(std::span(sizes)));
  EXPECT_FALSE(std::filesystem::exists(path));
  const std::byte one{1};
  writer.write("scalar", std::span(&one, 1));
  writer.commit();

  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const TensorView& weight = file.tensors().at("z.weight");
  EXPECT_THAT(weight.shape, ElementsAre(3, 1));
  EXPECT_EQ(std::memcmp(weight.bytes.data(), values.data(), 12), 0);
  EXPECT_EQ(file.tensors().at("scalar").elements(), 1);
  EXPECT_EQ(file.tensors().at("none").elements(), 0);
  EXPECT_EQ(file.tensors().at("a.shape").describe(), "a.shape I64 [2]");
  // The data begins at a multiple of 8, so that views of a map are aligned as far as their sizes
  // allow.
  const std::string bytes = read_text_file(path);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  EXPECT_EQ(header % 8, 0u);
}

TEST(Safetensors, AnUnfinishedWriterLeavesNothing) {
  const TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder.path() / "model.safetensors", {{"a", DType::kU8, {1}}}, {});
    EXPECT_THROW(writer.write("b", {}), Error);
    EXPECT_THROW(writer.write("a", {}), Error);
    EXPECT_THROW(writer.commit(), Error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace qvlm
