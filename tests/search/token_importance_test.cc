// What tokens count by gradients: what can be said of them without computing them.
#include "search/token_importance.h"

#include <gtest/gtest.h>
#include <qvlm/threads.h>

#include "base/error.h"
#include "model/llama.h"
#include "search/sensitivity.h"
#include "search/tiny_study.h"
#include "search/token_errors.h"

namespace qvlm {
namespace {

class TokenImportanceTest : public testing::Test {
 protected:
  TokenImportanceTest() {
    at::manual_seed(11);
    for (const auto& sample : study_.kinds)
      inputs_.push_back(
          at::randn({static_cast<std::int64_t>(sample.size()), study_.config.text.hidden_size}));
  }

  TokenImportance measure(const std::function<void()>& on_forward = {}) const {
    return measure_token_importance(study_.root, study_.config, inputs_, study_.kinds, on_forward);
  }

  const TinyStudy study_{"sharded_head_dim"};
  States inputs_;
};

TEST_F(TokenImportanceTest, InTheLastLayerOnlyWhatPredictsAnswersCounts) {
  const TokenImportance importance = measure();
  const InputWeights& last = importance.inputs.back();
  const auto behind_attention = {"self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"};
  for (const char* linear : behind_attention) {
    const States& weights = last.at(static_cast<std::size_t>(DecoderLayer::input_of(linear)));
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      for (std::size_t t = 0; t < study_.kinds[i].size(); ++t) {
        const auto weight = weights[i][static_cast<std::int64_t>(t)].item<float>();
        if (predicts_answer(study_.kinds[i], t)) {
          EXPECT_GT(weight, 2.0F * kEvenShare) << linear << " " << t;
        } else {
          EXPECT_FLOAT_EQ(weight, kEvenShare) << linear << " " << t;
        }
      }
    }
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    for (std::size_t t = 0; t < study_.kinds[i].size(); ++t) {
      const at::Tensor weight = importance.outputs.back()[i][static_cast<std::int64_t>(t)];
      EXPECT_EQ(weight.item<float>() > 2.0F * kEvenShare, predicts_answer(study_.kinds[i], t)) << t;
    }
  }
  // Keys and values of the question count too, those of the answer's last token do not.
  const at::Tensor& seen = last.at(DecoderLayer::input_of("self_attn.q_proj")).front();
  EXPECT_GT(seen[0].item<float>(), 1.001F * kEvenShare);
  EXPECT_FLOAT_EQ(seen[-1].item<float>(), kEvenShare);
}

TEST_F(TokenImportanceTest, MeansAreOneAndAnEvenShare) {
  const TokenImportance importance = measure();
  for (const States& samples : importance.outputs)
    EXPECT_NEAR(at::cat(samples).mean().item<double>(), 1.0 + kEvenShare, 1e-4);
  for (const InputWeights& layer : importance.inputs) {
    ASSERT_EQ(layer.size(), static_cast<std::size_t>(DecoderLayer::kInputs));
    for (const States& samples : layer)
      EXPECT_NEAR(at::cat(samples).mean().item<double>(), 1.0 + kEvenShare, 1e-4);
  }
}

TEST_F(TokenImportanceTest, DoesNotDependOnThreads) {
  const int threads = thread_count();
  set_thread_count(3);
  const auto many = measure();
  set_thread_count(1);
  int forwards = 0;
  const auto one = measure([&] { ++forwards; });
  set_thread_count(threads);
  EXPECT_EQ(forwards, static_cast<int>(many.inputs.size() * kImportanceForwards));
  ASSERT_FALSE(many.inputs.empty());
  for (std::size_t layer = 0; layer < many.inputs.size(); ++layer) {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      EXPECT_TRUE(at::equal(many.outputs[layer][i], one.outputs[layer][i]));
      for (std::size_t input = 0; input < many.inputs[layer].size(); ++input)
        EXPECT_TRUE(at::equal(many.inputs[layer][input][i], one.inputs[layer][input][i]));
    }
  }
}

TEST_F(TokenImportanceTest, NeedsAnswers) {
  std::vector<std::vector<TokenKind>> none;
  for (const auto& sample : study_.kinds)
    none.emplace_back(sample.size(), TokenKind::kText);
  EXPECT_THROW(measure_token_importance(study_.root, study_.config, inputs_, none, {}), Error);
}

}  // namespace
}  // namespace qvlm
