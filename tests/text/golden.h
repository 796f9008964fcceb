// What tests of this room share: the files of tests/data/text, and checking how a call fails.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace qvlm {

inline Json load_golden(const std::string& name) {
  return Json::load(std::string(QVLM_TESTS_DIR) + "/data/text/" + name + ".json");
}

inline std::vector<std::int32_t> ids_of(const Json& array) {
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : array.as_ints())
    ids.push_back(static_cast<std::int32_t>(id));
  return ids;
}

// What the pieces of a StreamDecoder join to; each must be whole characters.
inline std::string streamed(const Tokenizer& tokenizer,
                            const std::vector<std::int32_t>& ids,
                            bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  const auto add = [&](const std::string& piece) {
    EXPECT_TRUE(is_valid_utf8(piece)) << piece;
    text += piece;
  };
  for (const std::int32_t id : ids)
    add(decoder.push(id));
  add(decoder.finish());
  return text;
}

inline void expect_failure(const std::function<void()>& call,
                           ErrorKind kind,
                           const std::string& word) {
  try {
    call();
    ADD_FAILURE() << "expected a failure with " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr(word));
  }
}

}  // namespace qvlm
