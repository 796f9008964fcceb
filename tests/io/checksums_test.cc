// Checksums of a folder that qvlm wrote: everything that was damaged is found and named.
#include "io/checksums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/mapped_file.h"
#include "io/quantized_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ChecksumsTest : public QuantizedCheckpointTest {
 protected:
  // What is wrong with the files of out_; "file tensor: problem" each.
  std::vector<std::string> find_damage() const {
    ProblemList problems(out_);
    const WeightFiles weights = open_weight_files(out_, problems);
    EXPECT_TRUE(is_own_folder(out_, weights));
    verify_checksums(out_, weights, problems);
    std::vector<std::string> lines;
    for (const VerifyProblem& problem : problems.all())
      lines.push_back(problem.file + " " + problem.tensor + ": " + problem.problem);
    return lines;
  }

  // In a file of out_; a position behind its end stands for the last byte.
  void flip_bit(const std::string& file, std::size_t position) const {
    std::string bytes = read_text_file(out_ / file);
    bytes[std::min(position, bytes.size() - 1)] ^= 1;
    write_text_file(out_ / file, bytes);
  }
};

TEST_F(ChecksumsTest, AnUndamagedFolderHasNoProblems) {
  const LinearSchemes linears = {{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}};
  quantize(linears);
  EXPECT_THAT(find_damage(), IsEmpty());
  quantize(linears, {.overwrite = true, .shard_bytes = 500});
  EXPECT_THAT(find_damage(), IsEmpty());
}

TEST_F(ChecksumsTest, VerifyNamesAllThatWasChanged) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}},
           {.shard_bytes = 500});
  // The last tensor in the run of the model is the norm.
  flip_bit("model-00007-of-00007.safetensors", std::string::npos);
  const std::string first = "model-00001-of-00007.safetensors";
  flip_bit(first, read_text_file(out_ / first).find("q_proj.bias"));  // a tensor's name
  flip_bit("tokenizer.json", 1);
  fs::remove(out_ / "model-00002-of-00007.safetensors");
  const std::vector<std::string> damage = find_damage();
  EXPECT_THAT(
      damage,
      Contains("model-00007-of-00007.safetensors language_model.model.norm.weight: does not match "
               "its checksum"));
  EXPECT_THAT(damage, Contains(AllOf(StartsWith(first), HasSubstr("is not listed in qvlm.json"))));
  EXPECT_THAT(damage, Contains(StartsWith(first + " : header")));
  EXPECT_THAT(damage, Contains("model-00002-of-00007.safetensors : is missing"));
  EXPECT_THAT(damage, Contains("tokenizer.json : does not match its checksum"));
  EXPECT_EQ(damage.size(), 5u);
}

TEST_F(ChecksumsTest, ADamagedDocumentStillServes) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}});
  flip_bit("qvlm.json", read_text_file(out_ / "qvlm.json").find("42"));
  flip_bit("tokenizer.json", 1);
  EXPECT_THAT(find_damage(),
              ElementsAre("qvlm.json : its checksum does not match its contents",
                          "tokenizer.json : does not match its checksum, or qvlm.json is wrong "
                          "about it"));
  fs::remove(out_ / "qvlm.json");  // the weight file still tells who wrote it
  EXPECT_THAT(find_damage(), ElementsAre(StartsWith("qvlm.json : is missing")));
}

TEST_F(ChecksumsTest, VerifyNamesTheTensorsThatATruncationCuts) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}});
  const fs::path file = out_ / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 300);  // the norm takes 256, a down_proj 512
  EXPECT_THAT(find_damage(),
              ElementsAre(StartsWith("model.safetensors language_model.model.layers.10.mlp."
                                     "down_proj.weight: data_offsets end at byte"),
                          StartsWith("model.safetensors language_model.model.norm.weight: ")));
  fs::resize_file(file, 5);
  EXPECT_THAT(find_damage(), ElementsAre(StartsWith("model.safetensors : truncated")));
}

// Beside the shards, a loader would prefer it.
TEST_F(ChecksumsTest, VerifyFindsWeightsThatAnotherProgramAdded) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}},
           {.shard_bytes = 500});
  fs::copy_file(source_folder_ / "model.safetensors", out_ / "model.safetensors");
  EXPECT_THAT(find_damage(), ElementsAre(StartsWith("model.safetensors : is not one of")));
  fs::rename(out_ / "model.safetensors", out_ / "cache.safetensors");  // nobody loads that
  EXPECT_THAT(find_damage(), IsEmpty());
}

}  // namespace
}  // namespace qvlm
