#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/error.h"

namespace qvlm {
namespace {

using ::testing::HasSubstr;

void expect_failure(const std::function<void()>& call, ErrorKind kind, const std::string& word) {
  try {
    call();
    ADD_FAILURE() << "expected a failure with " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

TEST(Json, FailuresNameTheFileAndThePath) {
  const Json json = Json::parse(R"({"text":{"layers":"two","list":[1,2.5]}})", "config.json");
  expect_failure([&] { json.get("text").get_int("layers"); }, ErrorKind::kCorrupt,
                 "config.json: text.layers");
  expect_failure([&] { json.get("text").get("heads"); }, ErrorKind::kNotFound, "'heads'");
  expect_failure([&] { json.get("text").get("list").as_ints(); }, ErrorKind::kCorrupt, "list[1]");
  expect_failure([&] { json.get("text").get_bool("layers"); }, ErrorKind::kCorrupt,
                 "true or false");
}

TEST(Json, RefusesTextThatIsNotOneCleanDocument) {
  for (const char* text : {"", "{", "{\"a\":1,}", "[1] 2", "{\"a\":\"\xff\"}", "nan"}) {
    expect_failure([&] { Json::parse(text, "bad.json"); }, ErrorKind::kCorrupt, "bad.json");
  }
  expect_failure([] { Json::parse(R"({"a":{"b":1,"b":2}})", "bad.json"); }, ErrorKind::kCorrupt,
                 "duplicate key 'b'");
  expect_failure([] { Json::load("/nowhere/config.json"); }, ErrorKind::kNotFound, "/nowhere");
}

TEST(Json, RefusesNumbersThatAreNoInt64) {
  const std::string text = R"([9223372036854775807, -9223372036854775808, 9223372036854775808,
                               18446744073709551615, 1e300, -1e300, 9223372036854775808.0])";
  const Json list = Json::parse(text, "x");
  EXPECT_EQ(list.at(0).as_int(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(list.at(1).as_int(), std::numeric_limits<std::int64_t>::min());
  for (std::size_t i = 2; i < list.size(); ++i) {
    expect_failure([&] { list.at(i).as_int(); }, ErrorKind::kCorrupt, "out of range");
  }
}

TEST(Json, RefusesDeepNesting) {
  const auto nested = [](const std::string& open, const std::string& close, int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i)
      text += open;
    text += "1";
    for (int i = 0; i < depth; ++i)
      text += close;
    return Json::parse(text, "deep.json");
  };
  EXPECT_NO_THROW(nested("[", "]", 200));
  for (const int depth : {201, 200000}) {
    expect_failure([&] { nested("[", "]", depth).dump(); }, ErrorKind::kCorrupt,
                   "deep.json: nested deeper than 200");
    expect_failure([&] { nested("{\"a\":", "}", depth).dump(); }, ErrorKind::kCorrupt, "nested");
  }
}

TEST(Json, DefaultsStandForMissingAndNull) {
  const Json json = Json::parse(R"({"a":null,"b":3.0})", "x");
  EXPECT_EQ(json.get_int("a", 5), 5);
  EXPECT_EQ(json.get_int("b", 5), 3);  // a whole number may be spelled as a float
  EXPECT_EQ(json.get_string("c", "d"), "d");
  EXPECT_TRUE(json.find("c").is_null());
  EXPECT_TRUE(json.find("c").find("deeper").is_null());
}

TEST(Json, CopiesDoNotShareChanges) {
  Json original = Json::parse(R"({"b":{"x":1},"a":2})", "x");
  Json copy = original;
  Json child = copy.get("b");
  child.set("x", 7);
  copy.set("b", child);
  copy.erase("a");
  copy.set("c", Json::array());
  EXPECT_EQ(original.dump(), R"({"b":{"x":1},"a":2})");
  EXPECT_EQ(copy.dump(), R"({"b":{"x":7},"c":[]})");
}

TEST(Json, ValuesSurviveTheText) {
  Json json = Json::object();
  json.set("text", "a\"b\n");
  json.set("number", 0.1);
  json.set("big", std::int64_t{1} << 60);
  json.set("not finite", 1.0 / 0.0);
  const Json again = Json::parse(json.dump(2), "x");
  EXPECT_EQ(again.get_string("text"), "a\"b\n");
  EXPECT_EQ(again.get_double("number"), 0.1);
  EXPECT_EQ(again.get_int("big"), std::int64_t{1} << 60);
  EXPECT_TRUE(again.get("not finite").is_null());
}

}  // namespace
}  // namespace qvlm
