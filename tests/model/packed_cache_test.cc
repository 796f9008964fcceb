#include "model/packed_cache.h"

#include <gtest/gtest.h>
#include <qvlm/quantize.h>

#include <chrono>
#include <fstream>
#include <iterator>

#include "model/vlm.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

class PackedCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    make_tiny_model(folder_.path() / "float", "runtime_gqa");
    quantize(folder_.path() / "float", model_,
             Recipe::load(QVLM_SOURCE_DIR "/configs/recipes/w8a8.yaml"));
  }

  Vlm load(const std::filesystem::path& cache) const {
    return Vlm::load(Checkpoint::open(model_), Execution::kPacked, cache);
  }
  at::Tensor logits(const Vlm& model) const {
    KvCache cache(model.config().text, 4);
    return model.forward(model.embed({1, 5, 9, 3}, {}), cache, LogitsOf::kAll);
  }
  std::string bytes() const {
    std::ifstream in(cache_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  TemporaryFolder folder_;
  std::filesystem::path model_ = folder_.path() / "quantized";
  std::filesystem::path cache_ = folder_.path() / "model.packed";
};

TEST_F(PackedCacheTest, LoadsTheSameModelWithoutPackingAgain) {
  const at::Tensor want = logits(load({}));
  EXPECT_FALSE(std::filesystem::exists(cache_));
  EXPECT_TRUE(at::equal(logits(load(cache_)), want));  // packs, and writes the file
  const std::string written = bytes();
  ASSERT_FALSE(written.empty());
  const auto time = std::filesystem::last_write_time(cache_);
  EXPECT_TRUE(at::equal(logits(load(cache_)), want));  // maps it
  EXPECT_EQ(std::filesystem::last_write_time(cache_), time);

  const PackedCache cache(cache_, Checkpoint::open(model_));
  const auto packed = cache.find("decoder.layers.0.mlp.down_proj");
  ASSERT_TRUE(packed);
  EXPECT_EQ(packed->bits, 8);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(packed->codes.data()) % 64, 0u);
  EXPECT_FALSE(cache.find("decoder.layers.0.mlp.no_such_proj"));
}

TEST_F(PackedCacheTest, IsMadeAnewWhenTheCheckpointHasChanged) {
  load(cache_);
  const std::string before = bytes();
  const auto file = model_ / "model.safetensors";
  std::filesystem::last_write_time(file,
                                   std::filesystem::last_write_time(file) + std::chrono::hours(1));
  EXPECT_FALSE(
      PackedCache(cache_, Checkpoint::open(model_)).find("decoder.layers.0.mlp.down_proj"));
  load(cache_);
  EXPECT_NE(bytes(), before);  // it names another source
  EXPECT_TRUE(PackedCache(cache_, Checkpoint::open(model_)).find("decoder.layers.0.mlp.down_proj"));
}

TEST_F(PackedCacheTest, DamageIsFoundAndRepaired) {
  const at::Tensor want = logits(load(cache_));
  const std::string good = bytes();
  for (const std::size_t place : {good.size() - 1, good.size() / 2, std::size_t{3}}) {
    std::string bad = good;
    bad[place] = static_cast<char>(bad[place] ^ 0x10);
    std::ofstream(cache_, std::ios::binary) << bad;
    EXPECT_TRUE(at::equal(logits(load(cache_)), want)) << place;
    EXPECT_EQ(bytes(), good) << place;
  }
  std::ofstream(cache_, std::ios::binary) << good.substr(0, good.size() / 2);
  EXPECT_TRUE(at::equal(logits(load(cache_)), want));
  EXPECT_EQ(bytes(), good);
}

TEST_F(PackedCacheTest, APlaceThatCannotBeWrittenIsNoFailure) {
  const at::Tensor want = logits(load({}));
  EXPECT_TRUE(at::equal(logits(load(folder_.path() / "no" / "such" / "folder.packed")), want));
}

}  // namespace
}  // namespace qvlm
