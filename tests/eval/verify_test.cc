// verify(): what a whole folder looks like, what is said of one that lacks something, and of
// another source. Damage at random places is verify_damage_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/error.h>
#include <qvlm/verify.h>

#include <cstring>
#include <limits>
#include <set>

#include "base/json.h"
#include "base/mapped_file.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Packed words, one byte per code and zero points.
Recipe recipe() {
  const Scheme tokens{.bits = 8, .granularity = Granularity::kToken, .dynamic = true};
  const Scheme groups{
      .bits = 4, .symmetric = false, .granularity = Granularity::kGroup, .group_size = 32};
  return {.name = "test",
          .standard = LinearScheme{{.bits = 8}, tokens, {}},
          .overrides = {{"decoder\\..*(gate|up)_proj", LinearScheme{groups, tokens, {}}},
                        {"lm_head", std::nullopt}}};
}

class VerifyTest : public testing::Test {
 protected:
  VerifyTest() : source_(folder_.path() / "source"), out_(folder_.path() / "out") {
    make_tiny_model(source_, "runtime_gqa");
    quantize(source_, out_, recipe());
  }

  std::vector<std::string> lines(const VerifyOptions& options = {}) const {
    std::vector<std::string> lines;
    for (const VerifyProblem& problem : verify(out_, options).problems)
      lines.push_back(problem.file + " " + problem.tensor + ": " + problem.problem);
    return lines;
  }

  // Changes the weight file and forgets the checksums, so that only the other checks can notice.
  std::vector<std::string> lines_of_edited(
      const std::function<void(std::vector<EditedTensor>&)>& edit) const {
    edit_weights(out_ / "model.safetensors", edit);
    Json config = Json::load(out_ / "config.json");
    write_text_file(out_ / "config.json", config.dump());
    fs::remove(out_ / "qvlm.json");
    return lines();
  }

  const VerifyCheck& check(const VerifyReport& report, const std::string& beginning) const {
    const auto found = std::ranges::find_if(
        report.checks, [&](const VerifyCheck& check) { return check.name.starts_with(beginning); });
    if (found == report.checks.end()) throw std::runtime_error("no check " + beginning);
    return *found;
  }

  TemporaryFolder folder_;
  fs::path source_, out_;
};

TEST_F(VerifyTest, AWholeFolderPassesEveryCheck) {
  std::int64_t last = 0, total = 0;
  const VerifyReport report = verify(out_, {.against = source_}, [&](const Progress& progress) {
    EXPECT_GE(progress.done, last);
    last = progress.done;
    total = progress.total;
  });
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_EQ(last, total);
  for (const VerifyCheck& done : report.checks) {
    EXPECT_EQ(done.skipped, "") << done.name;
    EXPECT_GT(done.checked, 0) << done.name;
  }
  EXPECT_EQ(check(report, "forward passes").checked, 9);
  ASSERT_TRUE(report.run_difference && report.run_bound);
  EXPECT_LE(*report.run_difference, *report.run_bound);
  EXPECT_EQ(static_cast<std::int64_t>(report.linears.size()), check(report, "dequantized").checked);
  for (const VerifiedLinear& linear : report.linears) {
    ASSERT_TRUE(linear.recorded.has_value()) << linear.name;
    EXPECT_DOUBLE_EQ(linear.relative_error, *linear.recorded) << linear.name;
    EXPECT_GT(linear.relative_error, 0.0) << linear.name;
  }
}

TEST_F(VerifyTest, AFolderOfAnotherProgramHasNoChecksums) {
  const VerifyReport report = verify(source_);
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_THAT(check(report, "checksums").skipped, HasSubstr("no qvlm.json"));
  EXPECT_EQ(check(report, "dequantized").checked, 0);
  EXPECT_EQ(check(report, "forward passes").checked, 3);
  EXPECT_FALSE(report.run_bound.has_value());
  // Damage that needs no checksum to be seen.
  fs::resize_file(source_ / "model.safetensors", 20000);
  EXPECT_THAT(verify(source_).problems,
              Contains(testing::Field(&VerifyProblem::file, "model.safetensors")));
}

TEST_F(VerifyTest, FilesOfOthersAreNotAccused) {
  fs::copy(source_ / "model.safetensors", out_ / "lora.safetensors");
  const auto files = [&] {
    std::set<std::string> names;
    for (const VerifyProblem& problem : verify(out_).problems)
      names.insert(problem.file);
    return names;
  };
  EXPECT_THAT(files(), IsEmpty());
  fs::remove(out_ / "model.safetensors");
  EXPECT_THAT(files(), ElementsAre("model.safetensors"));
}

TEST_F(VerifyTest, RunsOnlyWhenAsked) {
  EXPECT_EQ(check(verify(out_, {.run = false}), "forward passes").skipped, "not asked for");
}

TEST_F(VerifyTest, NamesTensorsThatAreMissingLeftOverOrMisshapen) {
  const std::vector<std::string> found = lines_of_edited([](auto& tensors) {
    find_tensor(tensors, "layers.1.input_layernorm.weight").info.name += "_of_old";
    EditedTensor& norm = find_tensor(tensors, "layers.0.input_layernorm.weight");
    norm.info.shape = {2, norm.info.shape[0] / 2};
    find_tensor(tensors, "pre_layrnorm.bias").info.dtype = DType::kI32;
    std::swap(find_tensor(tensors, "layers.0.self_attn.q_proj.weight").info.shape[0],
              find_tensor(tensors, "layers.0.mlp.down_proj.weight").info.shape[0]);
  });
  EXPECT_THAT(found, Contains(AllOf(StartsWith("model.safetensors "),
                                    HasSubstr("layers.1.input_layernorm.weight: is missing"))));
  EXPECT_THAT(found, Contains(HasSubstr("input_layernorm.weight_of_old: is left over")));
  EXPECT_THAT(found, Contains(HasSubstr("layers.0.input_layernorm.weight: has shape [2, ")));
  EXPECT_THAT(found, Contains(HasSubstr("pre_layrnorm.bias: is I32")));
}

TEST_F(VerifyTest, NamesValuesThatAreNoNumbers) {
  const std::vector<std::string> found = lines_of_edited([](auto& tensors) {
    const float nan = std::numeric_limits<float>::quiet_NaN(), huge = 3e38f, zero = 0.0f;
    const auto put = [&](const std::string& name, float value) {
      EditedTensor& tensor = find_tensor(tensors, name);
      ASSERT_EQ(tensor.info.dtype, DType::kF32);
      std::memcpy(tensor.bytes.data(), &value, sizeof(value));
    };
    put("layers.0.input_layernorm.weight", nan);
    put("layers.0.mlp.up_proj.weight_scale", nan);
    put("layers.0.mlp.gate_proj.weight_scale", huge);
    put("layers.1.mlp.up_proj.weight_scale", zero);
  });
  EXPECT_THAT(found, Contains(HasSubstr("layers.0.input_layernorm.weight: holds NaN")));
  EXPECT_THAT(found, Contains(AllOf(HasSubstr("layers.0.mlp.up_proj.weight_scale: "),
                                    HasSubstr("negative or not finite"))));
  EXPECT_THAT(found, Contains(HasSubstr("gate_proj.weight_scale: is too large")));
  EXPECT_THAT(found, Contains(HasSubstr("layers.1.mlp.up_proj.weight_scale: 1 of ")));
  EXPECT_EQ(found.size(), 4U);
}

TEST_F(VerifyTest, AnotherSourceIsOneError) {
  const auto expect_refused = [&](const fs::path& source, const std::string& word) {
    try {
      verify(out_, {.against = source, .run = false});
      ADD_FAILURE() << source << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(word));
    }
  };
  expect_refused(out_, "is quantized");
  make_tiny_model(folder_.path() / "other", "hub_default");
  expect_refused(folder_.path() / "other", "is not the model");
  // The same shapes, other values.
  fs::copy(source_, folder_.path() / "twin");
  edit_weights(folder_.path() / "twin/model.safetensors", [](auto& tensors) {
    for (EditedTensor& tensor : tensors)
      std::ranges::reverse(tensor.bytes);
  });
  expect_refused(folder_.path() / "twin", "tensors differ");
  EXPECT_THROW(verify(out_, {.against = folder_.path() / "nowhere"}), Error);
}

TEST_F(VerifyTest, NamesWhatDiffersFromTheSource) {
  edit_weights(source_ / "model.safetensors", [](auto& tensors) {
    find_tensor(tensors, "layers.0.input_layernorm.weight").bytes[2] ^= 1;
    find_tensor(tensors, "layers.1.mlp.up_proj.weight").bytes[3] ^= 1;
  });
  EXPECT_THAT(
      lines({.against = source_, .run = false}),
      ElementsAre(
          AllOf(HasSubstr("layers.1.mlp.up_proj.weight_scale: "), HasSubstr("qvlm.json says")),
          HasSubstr("layers.0.input_layernorm.weight: was not quantized but differs")));
}

TEST_F(VerifyTest, TensorsThatTheRecipeReplacedAreNoDamage) {
  edit_weights(source_ / "model.safetensors", [](auto& tensors) {
    find_tensor(tensors, "layers.0.layer_norm1.weight").bytes[2] ^= 1;
  });
  Json document = Json::load(out_ / "qvlm.json");
  Json names = Json::array();
  names.append("vision_tower.encoder.layers.0.layer_norm1.weight");
  document.set("replaced", names);
  write_text_file(out_ / "qvlm.json", document.dump(1));
  const VerifyReport report = verify(out_, {.against = source_, .run = false});
  EXPECT_THAT(report.replaced, ElementsAre(HasSubstr("layers.0.layer_norm1.weight")));
  ASSERT_EQ(report.problems.size(), 1U);  // its checksum
  EXPECT_EQ(report.problems[0].file, "qvlm.json");
}

TEST_F(VerifyTest, ThrowsForNoFolder) {
  EXPECT_THROW(verify(folder_.path() / "nowhere"), Error);
}

}  // namespace
}  // namespace qvlm
