// Whether two runs wrote the same.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/mapped_file.h"

namespace qvlm {

// Expects every file of `a` in `b`, with the same bytes.
inline void expect_same_files(const std::filesystem::path& a, const std::filesystem::path& b) {
  for (const auto& entry : std::filesystem::directory_iterator(a)) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(read_text_file(entry.path()) == read_text_file(b / name)) << name;
  }
}

}  // namespace qvlm
