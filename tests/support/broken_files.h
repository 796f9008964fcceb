// Safetensors files written by hand, byte by byte, so that a test can break them in one place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

// Writes <length of header><header><data>; `claimed_length` replaces the true length.
void write_raw_safetensors(const std::filesystem::path& file,
                           std::string_view header,
                           std::string_view data,
                           std::optional<std::uint64_t> claimed_length = std::nullopt);

// One way to be broken. A reader must refuse the file as corrupt, in a sentence with the file's
// name and `word`.
struct BrokenSafetensors {
  std::string name;
  std::string bytes;
  std::string word;
};

std::vector<BrokenSafetensors> make_broken_safetensors();

}  // namespace qvlm
