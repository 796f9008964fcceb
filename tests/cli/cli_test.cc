// The executable as a process: what it prints where, its exit codes, and that a failed run leaves
// nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/cli_fixture.h"
#include "io/safetensors.h"
#include "support/broken_files.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(CliTest, EveryVerbInARow) {
  const Json inspected = succeed_json({"inspect", path("model")});
  EXPECT_EQ(inspected.get("decoder").get_int("vocab_size"), 296);
  EXPECT_EQ(inspected.get("linears").at(0).get_string("matrix_product"), "float");

  const std::string out = path("quantized");
  EXPECT_THAT(succeed({"quantize", path("model"), out, "--recipe", path("w8.yaml"), "--report",
                       path("q.json")}),
              AllOf(HasSubstr("decoder"), HasSubstr("w8 a8"), HasSubstr("wrote " + out)));
  EXPECT_GT(Json::load(path("q.json")).get("linears").size(), 10U);
  EXPECT_THAT(succeed({"inspect", out, "--tensors"}),
              AllOf(HasSubstr("w8 a8"), HasSubstr("integer")));

  const Json reply =
      succeed_json({"generate", out, "--image", image(), "--prompt", "what is it?",
                    "--max-new-tokens", "5", "--save-logits", path("logits.safetensors")});
  EXPECT_LE(reply.get_int("new_tokens"), 5);
  EXPECT_GT(reply.get_int("prompt_tokens"), 20);
  const SafetensorsFile logits(path("logits.safetensors"));
  EXPECT_EQ(logits.tensors().at("logits").shape,
            (std::vector<std::int64_t>{reply.get_int("prompt_tokens"), 296}));

  make_tiny_data(path("data"));
  succeed({"evaluate", path("model"), "--data", path("data"), "--report", path("float.json"),
           "--no-speed"});
  const std::string table =
      succeed({"evaluate", out, "--data", path("data"), "--report", path("w8.json"), "--reference",
               path("float.json"), "--threads", "1", "--quiet"});
  EXPECT_THAT(table, AllOf(HasSubstr("yes-no"), HasSubstr("all"), HasSubstr("McNemar"),
                           HasSubstr("logit KL")));
  const Json reports = succeed_json({"report", path("float.json"), path("w8.json")}).get("reports");
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_TRUE(reports.at(0).get("comparison").is_null());
  // Rounding to 8 bits moves logits, a little.
  EXPECT_GT(reports.at(1).get("comparison").get_double("kl_mean"), 0.0);
  EXPECT_LT(reports.at(1).get("comparison").get_double("kl_mean"), 0.1);
  EXPECT_EQ(entries(path(".")),
            (std::set<std::string>{"data", "float.json", "float.logits.safetensors",
                                   "logits.safetensors", "model", "q.json", "quantized", "w8.json",
                                   "w8.logits.safetensors", "w8.yaml"}));

  const Json speed =
      succeed_json({"bench", out, "--prompt-tokens", "40", "--new-tokens", "4", "--repeats", "1"});
  ASSERT_EQ(speed.get("variants").size(), 1U);
  const Json packed = speed.get("variants").at(0);
  EXPECT_EQ(packed.get_string("name"), "packed");
  EXPECT_GT(packed.get_double("decode_tokens_per_second"), 0.0);
  EXPECT_LE(packed.get_double("decode_other_seconds"), packed.get_double("decode_seconds"));
  EXPECT_EQ(reply.get_string("execution"), "packed");
  for (const Json& json : {reply, speed})
    EXPECT_EQ(json.get_string("model"), out);
}

// Weights exist once: what a variant adds to the process is what was predicted, within 5 % and what
// LibTorch keeps for itself. A float copy beside the codes, or the pages of the file, would be more
// than 15 MB on the bundled model.
#if !defined(__SANITIZE_ADDRESS__)  // the sanitizer takes memory of its own
TEST_F(CliTest, BenchStaysWithinItsPrediction) {
  const std::string model = std::string(QVLM_SOURCE_DIR) + "/models/reference-llava";
  const Json result = succeed_json(
      {"bench", model, "--recipe", "w8a8,w4a8", "--quiet", "--repeats", "3", "--new-tokens", "4"});
  const Json variants = result.get("variants");
  ASSERT_EQ(variants.size(), 4U);
  for (std::size_t i = 0; i < variants.size(); ++i) {
    const Json variant = variants.at(i);
    const std::int64_t predicted =
        variant.get_int("predicted_weights_bytes") + variant.get_int("predicted_kv_cache_bytes");
    const std::int64_t added =
        variant.get_int("memory_resident_bytes") - variant.get_int("memory_before_bytes");
    EXPECT_LE(static_cast<double>(added), 1.05 * static_cast<double>(predicted) + 15e6)
        << variant.get_string("name");
    EXPECT_LE(variant.get_int("memory_resident_bytes"), predicted * 105 / 100 + 300'000'000);
  }
  EXPECT_LT(variants.at(3).get_int("predicted_weights_bytes"),
            variants.at(2).get_int("predicted_weights_bytes"));
}
#endif

TEST_F(CliTest, BrokenWeightFiles) {
  const std::set<std::string> wanted = {"truncated data",    "overlap",        "reversed",
                                        "oversized",         "duplicate name", "unknown dtype",
                                        "huge header length"};
  std::size_t tried = 0;
  for (const BrokenSafetensors& broken : make_broken_safetensors()) {
    if (!wanted.contains(broken.name)) continue;
    write_file(path("model/model.safetensors"), broken.bytes);
    EXPECT_THAT(fail(3, {"inspect", path("model")}),
                AllOf(HasSubstr("model.safetensors"), HasSubstr(broken.word)));
    ++tried;
  }
  EXPECT_EQ(tried, wanted.size());
}

TEST_F(CliTest, MissingShardAndModel) {
  make_tiny_model(path("sharded"), "sharded_head_dim");
  std::string shard;
  for (const std::string& name : entries(path("sharded"))) {
    if (name.starts_with("model-") && name.ends_with(".safetensors")) shard = name;
  }
  fs::remove(fs::path(path("sharded")) / shard);
  EXPECT_THAT(fail(3, {"inspect", path("sharded")}), AllOf(HasSubstr(shard), HasSubstr("missing")));
  EXPECT_THAT(fail(3, {"inspect", path("nowhere")}), HasSubstr(path("nowhere")));
}

TEST_F(CliTest, BrokenTensors) {
  const std::string file = path("model/model.safetensors");
  const std::string original = read_text_file(file);
  const std::string tensor = "layers.1.mlp.up_proj.weight";
  edit_weights(file, [&](auto& tensors) {
    EditedTensor& weight = find_tensor(tensors, tensor);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(weight.bytes.data() + weight.bytes.size() / 2, &nan, sizeof(nan));
  });
  EXPECT_THAT(fail_to_quantize(3), AllOf(HasSubstr(tensor), HasSubstr("NaN")));
  EXPECT_THAT(fail(3, {"generate", path("model"), "--prompt", "x"}), HasSubstr(tensor));

  write_file(file, original);
  edit_weights(file, [&](auto& tensors) { find_tensor(tensors, tensor).info.dtype = DType::kI32; });
  EXPECT_THAT(fail_to_quantize(3), AllOf(HasSubstr(tensor), HasSubstr("I32")));

  write_file(file, original);
  edit_weights(file, [&](auto& tensors) { find_tensor(tensors, tensor).info.name += "_gone"; });
  EXPECT_THAT(fail(3, {"generate", path("model"), "--prompt", "x"}),
              AllOf(HasSubstr(tensor), HasSubstr("missing")));
}

TEST_F(CliTest, UnsupportedModelAndCpu) {
  EXPECT_THAT(fail(4, {"inspect", path("model")}, {{"QVLM_CPU_LEVEL", "abacus"}}),
              HasSubstr("abacus"));
  Json config = Json::load(path("model/config.json"));
  config.set("model_type", "crystal_ball");
  write_file(path("model/config.json"), config.dump());
  EXPECT_THAT(fail(4, {"inspect", path("model")}),
              AllOf(HasSubstr("config.json"), HasSubstr("crystal_ball")));
}

TEST_F(CliTest, NotAnImage) {
  write_file(path("i.png"), "this is text");
  const std::string text =
      fail(3, {"generate", path("model"), "--image", path("i.png"), "--prompt", "x"});
  EXPECT_THAT(text, AllOf(HasSubstr(path("i.png")), HasSubstr("not an image")));
  write_file(path("i.png"), read_text_file(image()).substr(0, 60));
  EXPECT_THAT(fail(3, {"generate", path("model"), "--image", path("i.png"), "--prompt", "x"}),
              HasSubstr(path("i.png")));
}

TEST_F(CliTest, BadRecipes) {
  const std::string weight = "  weight: {bits: 8, granularity: channel}\n";
  write_file(path("key.yaml"), "name: x\ndefault:\n" + weight + "colour: red\n");
  EXPECT_THAT(fail_to_quantize(2, "key.yaml"),
              AllOf(HasSubstr("key.yaml:4"), HasSubstr("'colour'")));
  write_file(path("scheme.yaml"), "name: x\ndefault:\n  weight: {bits: 8, granularity: row}\n");
  EXPECT_THAT(fail_to_quantize(2, "scheme.yaml"),
              AllOf(HasSubstr("scheme.yaml:3"), HasSubstr("'row'")));
  write_file(path("bits.yaml"), "name: x\ndefault:\n  weight: {bits: 9, granularity: channel}\n");
  EXPECT_THAT(fail_to_quantize(2, "bits.yaml"), AllOf(HasSubstr("bits.yaml:3"), HasSubstr("9")));
  write_file(path("match.yaml"),
             "name: x\ndefault:\n" + weight +
                 "overrides:\n  - match: \"decoder\\\\.block.*\"\n    keep: float\n");
  EXPECT_THAT(fail_to_quantize(2, "match.yaml"), HasSubstr("decoder\\.block.*"));
}

TEST_F(CliTest, PlacesThatCannotBeWritten) {
  // Below /proc nobody may create a file, not even root, for whom permissions are no obstacle.
  EXPECT_THAT(fail_to_quantize(3, "w8.yaml", "/proc/out"), HasSubstr("/proc/out"));
  write_file(path("file"), "");
  EXPECT_THAT(fail_to_quantize(3, "w8.yaml", path("file/out")), HasSubstr(path("file/out")));
  make_tiny_data(path("data"));
  EXPECT_THAT(
      fail(3, {"evaluate", path("model"), "--data", path("data"), "--report", path("file/r.json")}),
      HasSubstr(path("file/r")));
}

TEST_F(CliTest, KeepsAnExistingFolder) {
  write_file(path("out/precious.txt"), "data");
  EXPECT_THAT(fail_to_quantize(2), HasSubstr(path("out")));
  EXPECT_EQ(entries(path("out")), std::set<std::string>{"precious.txt"});
}

TEST_F(CliTest, FullDisk) {
  const std::string disk = path("disk");
  fs::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    GTEST_SKIP() << "mounting a small disk takes root's rights";
  }
  EXPECT_THAT(fail_to_quantize(3, "w8.yaml", disk + "/out"),
              AllOf(HasSubstr(disk), HasSubstr("No space left")));
  EXPECT_THAT(entries(disk), IsEmpty());
  EXPECT_THAT(fail(3, {"generate", path("model"), "--prompt", std::string(100, 'x'),
                       "--save-logits", disk + "/l.safetensors"}),
              AllOf(HasSubstr(disk), HasSubstr("No space left")));
  EXPECT_THAT(entries(disk), IsEmpty());
  ::umount2(disk.c_str(), MNT_DETACH);
}

TEST_F(CliTest, OutputPlacesAreCheckedBeforeTheRun) {
  make_tiny_data(path("data"));
  fs::create_directory(path("folder"));
  EXPECT_THAT(
      fail(3, {"evaluate", path("model"), "--data", path("data"), "--report", path("folder")}),
      HasSubstr("it is a folder"));
  EXPECT_THAT(fail(3, {"quantize", path("model"), path("out"), "--recipe", path("w8.yaml"),
                       "--report", path("folder")}),
              HasSubstr("it is a folder"));
}

TEST_F(CliTest, ASchemeIsARecipe) {
  make_tiny_model(path("wide"), "runtime_gqa");
  EXPECT_THAT(succeed({"plan", path("wide"), "--scheme", "w8a8"}),
              HasSubstr("recipe W8A8 balanced"));
  const std::vector<std::string> quantize = {"quantize", path("wide"), path("out"), "--scheme",
                                             "w8a8"};
  EXPECT_THAT(fail(2, quantize), HasSubstr("give --data"));
  std::vector<std::string> fast = quantize;
  fast.insert(fast.end(), {"--preset", "fast"});
  EXPECT_THAT(succeed(fast), HasSubstr("w8 a8"));
  EXPECT_THAT(fail(2, {"quantize", path("wide"), path("none"), "--scheme", "w9a9"}),
              HasSubstr("known are W8A8"));
}

TEST_F(CliTest, ReferenceMustFitAndIsKept) {
  make_tiny_data(path("data"));
  const std::vector<std::string> base = {"evaluate", path("model"), "--data", path("data"),
                                         "--no-speed"};
  const auto with = [&base](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return more;
  };
  succeed(with({"--report", path("float.json")}));
  const std::string logits = read_text_file(path("float.logits.safetensors"));
  EXPECT_THAT(fail(2, with({"--reference", path("float.json"), "--items", "3", "--report",
                            path("r.json")})),
              HasSubstr("did not run the same items"));
  EXPECT_THAT(fail(2, with({"--reference", path("float.json"), "--max-new-tokens", "3"})),
              HasSubstr("max_new_tokens 3"));
  EXPECT_THAT(fail(2, with({"--reference", path("float.json"), "--report", path("float.txt")})),
              HasSubstr("would replace those of the reference"));
  EXPECT_EQ(read_text_file(path("float.logits.safetensors")), logits);
}

TEST_F(CliTest, InterruptedEvaluationEndsAtOnce) {
  // Without the signal this runs for minutes; the first progress line comes after two seconds.
  constexpr int kItems = 50000;
  std::string lines;
  for (int i = 0; i < kItems; ++i) {
    lines += R"({"id": ")" + std::to_string(i) +
             R"(", "image": null, "question": "what is it?", "answer": "red", "type": "open"})"
             "\n";
  }
  write_file(path("data/data.jsonl"), lines);
  const std::set<std::string> before = entries(folder_.path());
  const auto running = [](const std::string& err) { return err.find("questions") != err.npos; };
  const InterruptedProcess result =
      interrupt_qvlm({"evaluate", path("model"), "--data", path("data"), "--max-new-tokens", "100",
                      "--report", path("r.json")},
                     running);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  EXPECT_LT(result.seconds_to_end, 5.0);
  EXPECT_EQ(entries(folder_.path()), before);
}

TEST_F(CliTest, InterruptedQuantizationLeavesNothing) {
  // The bundled model is large enough that its output can be seen in the making.
  const std::string model = std::string(QVLM_SOURCE_DIR) + "/models/reference-llava";
  const std::set<std::string> before = entries(folder_.path());
  const auto running = [&](const std::string&) { return entries(folder_.path()) != before; };
  const InterruptedProcess result =
      interrupt_qvlm({"quantize", model, path("out"), "--recipe", path("w8.yaml")}, running);
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_LT(result.seconds_to_end, 5.0);
  EXPECT_EQ(entries(folder_.path()), before);
}

TEST_F(CliTest, BadData) {
  make_tiny_data(path("data"));
  fs::remove(path("data/images/b.png"));
  EXPECT_THAT(fail(3, {"evaluate", path("model"), "--data", path("data")}),
              AllOf(HasSubstr("data.jsonl:2"), HasSubstr("images/b.png")));
  EXPECT_THAT(fail(3, {"report", path("none.json")}), HasSubstr("none.json"));
}

TEST_F(CliTest, Usage) {
  EXPECT_THAT(fail(2, {"quantize", path("model"), path("out")}),
              AllOf(HasSubstr("--recipe"), HasSubstr("--help")));
  EXPECT_THAT(fail(2, {"levitate"}), HasSubstr("levitate"));
  EXPECT_THAT(fail(2, {"inspect", ""}), HasSubstr("MODEL"));
  EXPECT_THAT(succeed({"--version"}), StartsWith("qvlm "));
}

}  // namespace
}  // namespace qvlm
