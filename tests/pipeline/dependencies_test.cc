// What the planner stands on: dependencies do not change with the number of samples that say the
// same, nor with the scale of what lies between layers; statistics are of what the linears see.
#include <gtest/gtest.h>

#include "model/checkpoint_weights.h"
#include "pipeline/dependencies.h"
#include "support/golden.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(QVLM_TESTS_DIR) / "data" / "llava" / "hub_default";

// The same function with norm gains doubled and what reads them halved: exact in floats.
class Rescaled : public WeightSource {
 public:
  explicit Rescaled(const Checkpoint& checkpoint) : floats_(checkpoint) {}

  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override {
    const at::Tensor tensor = floats_.load(name, shape).to(at::kFloat);
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (has("layernorm")) return tensor * 2;
    for (const char* reader : {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}) {
      if (has(reader)) return tensor / 2;
    }
    return tensor;
  }
  std::optional<LinearScheme> find_scheme(const std::string&) const override { return {}; }
  QuantizedWeight load_codes(const std::string&, std::int64_t, std::int64_t) const override {
    return {};
  }

 private:
  CheckpointWeights floats_;
};

class DependenciesTest : public testing::Test {
 protected:
  DependenciesTest() {
    at::manual_seed(6);
    for (const std::int64_t tokens : {9, 16, 30})
      states_.push_back(at::randn({tokens, config_.text.hidden_size}));
  }

  LayerDependencies measure(const Weights& root, const States& states) const {
    const SearchOptions search;
    const RoundingOptions rounding;
    const DecoderStudy study{root, config_, schemes_, search, rounding, 0.25, {}};
    return measure_dependencies(study, states, {.statistics = true});
  }

  const Checkpoint checkpoint_ = Checkpoint::open(kModel);
  const ModelConfig config_ = load_model_config(checkpoint_);
  const Weights floats_{checkpoint_, Execution::kFloat};
  const LinearSchemes schemes_;
  States states_;
};

TEST_F(DependenciesTest, RescalingALayerInsideChangesNothing) {
  const LayerDependencies plain = measure(floats_, states_);
  const Weights rescaled(std::make_shared<Rescaled>(checkpoint_), Execution::kFloat);
  const LayerDependencies other = measure(rescaled, states_);
  EXPECT_EQ(plain.dependency, other.dependency);  // powers of two: the same states bit for bit
  EXPECT_EQ(plain.entropy, other.entropy);
}

// The measure is per element: the same samples twice say the same. Sums in another order differ by
// a few roundings of float64.
TEST_F(DependenciesTest, MoreOfTheSameChangesNothing) {
  States twice = states_;
  twice.insert(twice.end(), states_.begin(), states_.end());
  const LayerDependencies once = measure(floats_, states_), doubled = measure(floats_, twice);
  ASSERT_FALSE(once.dependency.empty());
  for (std::size_t i = 0; i < once.dependency.size(); ++i)
    EXPECT_NEAR(once.dependency[i], doubled.dependency[i], 1e-6);
}

TEST_F(DependenciesTest, StatisticsAreOfWhatTheLinearsSee) {
  const LayerDependencies measured = measure(floats_, states_);
  EXPECT_EQ(measured.statistics.size(), 7U * static_cast<std::size_t>(config_.text.layers));
  const InputStatistics& seen = measured.statistics.at("decoder.layers.0.self_attn.k_proj");
  EXPECT_EQ(seen.tokens(), 9 + 16 + 30);
  const at::Tensor gain =
      floats_.get("decoder.layers.0.input_layernorm.weight", {config_.text.hidden_size});
  const at::Tensor inputs =
      at::rms_norm(at::cat(states_), {config_.text.hidden_size}, gain, config_.text.rms_norm_eps);
  EXPECT_TRUE(at::equal(seen.low(), std::get<0>(inputs.min(0))));
  EXPECT_TRUE(at::equal(seen.high(), std::get<0>(inputs.max(0))));
  EXPECT_TRUE(at::allclose(seen.second_moment(), inputs.to(at::kDouble).square().mean(0), 1e-5));
}

}  // namespace
}  // namespace qvlm
