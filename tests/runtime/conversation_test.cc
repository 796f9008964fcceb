// Conversations on a random model: what is remembered, what is not run again, what a reply tells,
// and what ends it.
#include <gtest/gtest.h>
#include <qvlm/error.h>
#include <qvlm/session.h>

#include <cmath>
#include <thread>

#include "runtime/engine.h"
#include "runtime/sampler.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

class ConversationTest : public testing::Test {
 protected:
  ConversationTest() : model_(folder_.path() / "model") {
    make_tiny_model(model_, "runtime_gqa");
    session_.emplace(Session::open(model_));
  }

  static Image image(const std::string& name) {
    return Image::load(std::filesystem::path(QVLM_TESTS_DIR) / "data/llava/images" / name);
  }
  static GenerateOptions tokens(std::int64_t count) {
    GenerateOptions options;
    options.max_new_tokens = count;
    return options;
  }
  // Greedy ids of a dialogue, from a sequence that has run nothing before.
  std::vector<std::int32_t> run_afresh(const std::vector<Turn>& turns,
                                       const std::vector<std::string>& images,
                                       std::int64_t count) const {
    const Engine engine = Engine::load(model_, Execution::kPacked);
    std::vector<at::Tensor> features;
    for (const std::string& name : images)
      features.push_back(engine.encode_image(image(name)));
    const std::vector<std::int32_t> prompt = engine.encode_prompt(turns);
    Sequence sequence(engine, static_cast<std::int64_t>(prompt.size()) + count, KvFormat::kFloat32);
    at::Tensor logits = sequence.prefill(prompt, features).select(0, -1);
    std::vector<std::int32_t> ids;
    while (std::ssize(ids) < count) {
      const std::int32_t id = Sampler({}).pick(logits);
      if (engine.is_end_token(id)) break;
      ids.push_back(id);
      logits = sequence.step(id);
    }
    return ids;
  }

  TemporaryFolder folder_;
  std::filesystem::path model_;
  std::optional<Session> session_;
};

TEST_F(ConversationTest, FurtherQuestionsRunTheirOwnWordsOnly) {
  Conversation conversation = session_->start("be brief");
  const Reply first = conversation.ask({"what?", {image("a.png")}}, tokens(6));
  EXPECT_EQ(first.reused_tokens, 0);
  ASSERT_FALSE(first.text.empty());
  const Reply second = conversation.ask({"why?", {}}, tokens(6));
  EXPECT_EQ(second.ids, run_afresh({{Role::kSystem, "be brief", 0},
                                    {Role::kUser, "what?", 1},
                                    {Role::kAssistant, first.text, 0},
                                    {Role::kUser, "why?", 0}},
                                   {"a.png"}, 6));
  // All of the first prompt; the reply's text may be other tokens than those generated.
  EXPECT_GE(second.reused_tokens, first.prompt_tokens);
  EXPECT_GT(second.prompt_tokens, first.prompt_tokens + 6);
  EXPECT_GE(conversation.positions(), second.prompt_tokens);
}

TEST_F(ConversationTest, ALaterImageKeepsWhatWasBeforeIt) {
  Conversation conversation = session_->start();
  const Reply first = conversation.ask({"what?", {image("a.png")}}, tokens(4));
  const Reply second =
      conversation.ask({"and these?", {image("b.png"), image("a.png")}}, tokens(4));
  EXPECT_EQ(second.ids, run_afresh({{Role::kUser, "what?", 1},
                                    {Role::kAssistant, first.text, 0},
                                    {Role::kUser, "and these?", 2}},
                                   {"a.png", "b.png", "a.png"}, 4));
  EXPECT_GE(second.reused_tokens, first.prompt_tokens);
  EXPECT_GE(second.prompt_tokens - second.reused_tokens, 2 * session_->info().image_positions);
}

TEST_F(ConversationTest, AFailedQuestionLeavesTheDialogueAsItWas) {
  Conversation conversation = session_->start(), other = session_->start();
  conversation.ask({"what?", {image("a.png")}}, tokens(4));
  other.ask({"what?", {image("a.png")}}, tokens(4));
  const std::string long_text(2000, 'x');
  EXPECT_THROW(conversation.ask({long_text, {}}, tokens(4)), Error);
  EXPECT_THROW(conversation.ask({"why?", {image("b.png")}}, tokens(4),
                                [](std::string_view) -> bool { throw std::runtime_error("no"); }),
               std::runtime_error);
  GenerateOptions cancelled = tokens(4);
  std::stop_source source;
  source.request_stop();
  cancelled.cancel = source.get_token();
  const Reply reply = conversation.ask({"why?", {image("b.png")}}, cancelled);
  EXPECT_EQ(reply.stop_reason, StopReason::kCancelled);
  EXPECT_TRUE(reply.ids.empty());
  EXPECT_EQ(conversation.ask({"why?", {}}, tokens(8)).ids, other.ask({"why?", {}}, tokens(8)).ids);
}

TEST_F(ConversationTest, ImagesOfAForgottenQuestionAreNotShared) {
  Conversation conversation = session_->start();
  const Question question{"what?", {image("a.png")}};
  EXPECT_THROW(conversation.ask(question, tokens(4),
                                [](std::string_view) -> bool { throw std::runtime_error("no"); }),
               std::runtime_error);
  const Reply reply = conversation.ask(question, tokens(4));
  // What comes before the image at most.
  EXPECT_LT(reply.reused_tokens, reply.prompt_tokens - session_->info().image_positions);
}

TEST_F(ConversationTest, TheImageTokenIsNoText) {
  Conversation conversation = session_->start();
  EXPECT_THROW(conversation.ask({"<image>\nwhat?", {image("a.png")}}, tokens(4)), Error);
  EXPECT_THROW(session_->start("see <image>"), Error);
  EXPECT_NO_THROW(conversation.ask({"what?", {image("a.png")}}, tokens(4)));
}

TEST_F(ConversationTest, AnotherThreadCancels) {
  std::stop_source source;
  GenerateOptions options = tokens(200);
  options.temperature = 1.0;
  options.cancel = source.get_token();
  std::string shown;
  std::thread other;
  const Reply reply =
      session_->generate({"what?", {image("a.png")}}, options, [&](std::string_view piece) {
        if (shown.empty()) other = std::thread([&] { source.request_stop(); });
        shown += piece;
        if (other.joinable()) other.join();
        return true;
      });
  EXPECT_EQ(reply.stop_reason, StopReason::kCancelled);
  EXPECT_EQ(reply.text, shown);
  EXPECT_LT(reply.ids.size(), 200U);
}

TEST_F(ConversationTest, ProbabilitiesAreTheModelsOwn) {
  GenerateOptions options = tokens(5);
  options.temperature = 2.0;  // the distribution that is sampled from is another
  options.seed = 4;
  options.log_probabilities = true;
  options.alternatives = 1 << 20;  // all there are
  const Reply reply = session_->generate({"what?", {image("a.png")}}, options);
  ASSERT_EQ(reply.log_probabilities.size(), reply.ids.size());
  ASSERT_EQ(reply.alternatives.size(), reply.ids.size());
  for (std::size_t i = 0; i < reply.ids.size(); ++i) {
    double sum = 0.0, own = 1.0, before = 0.0;
    for (const TokenChoice& choice : reply.alternatives[i]) {
      sum += std::exp(choice.log_probability);
      EXPECT_LE(choice.log_probability, before);
      before = choice.log_probability;
      if (choice.id == reply.ids[i]) own = choice.log_probability;
    }
    EXPECT_NEAR(sum, 1.0, 1e-9);
    EXPECT_EQ(own, reply.log_probabilities[i]);
  }
  options.temperature = 0.0;
  options.alternatives = 2;
  const Reply greedy = session_->generate({"what?", {image("a.png")}}, options);
  for (std::size_t i = 0; i < greedy.ids.size(); ++i) {
    ASSERT_EQ(greedy.alternatives[i].size(), 2U);
    EXPECT_EQ(greedy.alternatives[i][0].id, greedy.ids[i]);
  }
  EXPECT_TRUE(session_->generate({"what?", {}}, tokens(2)).log_probabilities.empty());
}

TEST_F(ConversationTest, ConversationsOnThreadsDoNotDisturbEachOther) {
  const auto talk = [this](const std::string& name) {
    Conversation conversation = session_->start();
    std::vector<std::int32_t> ids = conversation.ask({"what?", {image(name)}}, tokens(5)).ids;
    const Reply second = conversation.ask({"why?", {}}, tokens(5));
    ids.insert(ids.end(), second.ids.begin(), second.ids.end());
    return ids;
  };
  const std::vector<std::int32_t> a = talk("a.png"), b = talk("b.png");
  std::vector<std::int32_t> threaded;
  std::thread other([&] { threaded = talk("b.png"); });
  EXPECT_EQ(talk("a.png"), a);
  other.join();
  EXPECT_EQ(threaded, b);
}

TEST_F(ConversationTest, TheLimitIsRefusedBeforeAllocating) {
  const SessionInfo info = session_->info();
  EXPECT_EQ(session_->memory_in_use(), info.weight_bytes);
  EXPECT_GT(info.load_seconds, 0.0);
  SessionOptions options;
  options.memory_limit = info.weight_bytes - 1;
  try {
    Session::open(model_, options);
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_NE(std::string(error.what()).find("memory_limit"), std::string::npos) << error.what();
  }

  // Room for the working memory of a prompt and for the caches of one conversation, not of two.
  Conversation unlimited = session_->start();
  const Reply reply = unlimited.ask({"what?", {}}, tokens(4));
  const std::int64_t cache = session_->memory_in_use() - info.weight_bytes;
  EXPECT_EQ(cache, info.kv_bytes * (reply.prompt_tokens + 4));
  options.memory_limit = info.weight_bytes + cache + (std::int64_t{1} << 30);
  const Session roomy = Session::open(model_, options);
  EXPECT_EQ(roomy.generate({"what?", {}}, tokens(4)).ids, reply.ids);
  EXPECT_EQ(roomy.memory_in_use(), info.weight_bytes);
  options.memory_limit = info.weight_bytes + cache;
  const Session tight = Session::open(model_, options);
  EXPECT_THROW(tight.generate({"what?", {}}, tokens(4)), Error);
  EXPECT_EQ(tight.memory_in_use(), info.weight_bytes);
}

TEST_F(ConversationTest, FeaturesOfKeptImagesCount) {
  const SessionInfo info = session_->info();
  Conversation conversation = session_->start();
  const Reply reply = conversation.ask({"what?", {image("a.png")}}, tokens(4));
  ASSERT_FALSE(reply.text.empty());
  const std::int64_t cache = info.kv_bytes * (reply.prompt_tokens + 4);
  const std::int64_t features = session_->memory_in_use() - info.weight_bytes - cache;
  EXPECT_GT(features, 0);
  EXPECT_EQ(features % (info.image_positions * 4), 0);
}

TEST_F(ConversationTest, WhatEndedAReplyStaysWhateverTheCallbackSaysOfTheLastPiece) {
  // The first token's text is held back, as it may begin the stop text.
  GenerateOptions options = tokens(1);
  const Reply plain = session_->generate({"what?", {}}, options);
  ASSERT_FALSE(plain.text.empty());
  options.stop = {plain.text + "and more"};
  int calls = 0;
  const Reply reply = session_->generate({"what?", {}}, options, [&](std::string_view) {
    ++calls;
    return false;
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(reply.stop_reason, StopReason::kLength);
}

TEST_F(ConversationTest, AnotherKvFormatSharesTheWeights) {
  const Session bytes = session_->with_kv_cache(KvFormat::kInt8);
  EXPECT_LT(bytes.info().kv_bytes, session_->info().kv_bytes / 2);
  EXPECT_EQ(bytes.memory_in_use(), session_->memory_in_use());
  EXPECT_FALSE(bytes.generate({"what?", {image("a.png")}}, tokens(3)).ids.empty());
}

TEST_F(ConversationTest, TimesAndMemoryAreTold) {
  const Reply reply = session_->generate({"what?", {image("a.png")}}, tokens(4));
  EXPECT_GT(reply.first_token_seconds, 0.0);
  EXPECT_GE(reply.first_token_seconds, reply.prefill_seconds);
  const ProcessMemory memory = process_memory();
  EXPECT_GT(memory.resident, session_->info().weight_bytes);
  EXPECT_GE(memory.peak, memory.resident);
}

}  // namespace
}  // namespace qvlm
