// Session::generate on a random model: threads, seeds, stop texts and callbacks.
#include <gtest/gtest.h>
#include <qvlm/error.h>
#include <qvlm/session.h>
#include <qvlm/threads.h>

#include <thread>

#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    make_tiny_model(folder_.path() / "model", "runtime_gqa");
    session_.emplace(Session::open(folder_.path() / "model"));
  }

  Question question(const std::string& text, const std::string& image) const {
    return {text,
            {Image::load(std::filesystem::path(QVLM_TESTS_DIR) / "data/llava/images" / image)}};
  }
  Reply reply(const GenerateOptions& options) const {
    return session_->generate(question("what is it?", "a.png"), options);
  }
  static GenerateOptions sampled(std::uint64_t seed) {
    GenerateOptions options;
    options.max_new_tokens = 40;
    options.temperature = 1.0;
    options.seed = seed;
    return options;
  }

  TemporaryFolder folder_;
  std::optional<Session> session_;
};

TEST_F(SessionTest, TwoThreadsReplyAsOneDoes) {
  const std::vector<Question> questions = {question("what?", "a.png"),
                                           question("why?", "b.png"),
                                           question("is it red?", "a.png"),
                                           {"and this?", {}}};
  const auto ask = [&](std::size_t i) { return session_->generate(questions[i], sampled(i)).ids; };
  std::vector<std::vector<std::int32_t>> alone, together(questions.size());
  for (std::size_t i = 0; i < questions.size(); ++i)
    alone.push_back(ask(i));
  const auto ask_every_second = [&](std::size_t first) {
    for (std::size_t i = first; i < questions.size(); i += 2)
      together[i] = ask(i);
  };
  std::thread other(ask_every_second, 1);
  ask_every_second(0);
  other.join();
  EXPECT_EQ(together, alone);
}

TEST_F(SessionTest, AThreadKeepsTheCountThatItSet) {
  const int before = thread_count();
  const Reply expected = reply(sampled(5));
  std::thread other([&] {
    set_thread_count(1);
    EXPECT_EQ(reply(sampled(5)).ids, expected.ids);
    EXPECT_EQ(thread_count(), 1);  // LibTorch sets its own at a thread's first use of it
  });
  other.join();
  EXPECT_EQ(thread_count(), before);
}

TEST_F(SessionTest, SameSeedSameReply) {
  const Reply first = reply(sampled(5)), again = reply(sampled(5)), other = reply(sampled(6));
  EXPECT_EQ(first.ids, again.ids);
  EXPECT_EQ(first.text, again.text);
  EXPECT_NE(first.ids, other.ids);
}

TEST_F(SessionTest, LengthEndsAReply) {
  GenerateOptions options;
  options.max_new_tokens = 3;
  const Reply three = reply(options);
  EXPECT_EQ(three.stop_reason, StopReason::kLength);
  EXPECT_EQ(three.ids.size(), 3U);
  options.max_new_tokens = 100000;  // ends at the model's last position, 256
  const Reply all = reply(options);
  EXPECT_LE(all.prompt_tokens + static_cast<std::int64_t>(all.ids.size()), 256);
}

TEST_F(SessionTest, StopTextEndsAReplyBeforeIt) {
  const Reply whole = reply(sampled(5));
  ASSERT_GE(whole.text.size(), 8U);
  const auto begins = [&](std::size_t byte) {
    return (static_cast<unsigned char>(whole.text[byte]) & 0xC0U) != 0x80U;
  };
  std::size_t at = whole.text.size() / 2;
  while (!begins(at))
    --at;
  std::size_t end = at + 4;
  while (end < whole.text.size() && !begins(end))
    ++end;
  GenerateOptions options = sampled(5);
  options.stop = {whole.text.substr(at, end - at)};  // whole characters
  std::string streamed;
  const Reply stopped = session_->generate(question("what is it?", "a.png"), options,
                                           [&streamed](std::string_view piece) {
                                             streamed += piece;
                                             return true;
                                           });
  EXPECT_EQ(stopped.stop_reason, StopReason::kStopText);
  EXPECT_EQ(stopped.text, whole.text.substr(0, whole.text.find(options.stop[0])));
  EXPECT_EQ(streamed, stopped.text);
  EXPECT_LT(stopped.ids.size(), whole.ids.size());
}

TEST_F(SessionTest, RefusesAStopTextThatIsNoText) {
  GenerateOptions options;
  options.stop = {"\xff"};
  EXPECT_THROW(session_->generate(question("what is it?", "a.png"), options), Error);
}

TEST_F(SessionTest, ACallbackThatRefusesIsNotCalledAgain) {
  GenerateOptions options = sampled(5);
  options.stop = {"a text that does not come"};
  int calls = 0;
  std::string streamed;
  const Reply reply =
      session_->generate(question("what is it?", "a.png"), options, [&](std::string_view piece) {
        streamed += piece;
        return ++calls < 2;
      });
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(reply.stop_reason, StopReason::kCallback);
  EXPECT_EQ(reply.text, streamed);
}

}  // namespace
}  // namespace qvlm
