// Images as the models see them first: 8-bit RGB, rows from top to bottom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace qvlm {

struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;  // [height, width, 3]

  // Reads a PNG, JPEG or WebP file, told apart by its first bytes, to the pixels that Pillow's
  // Image.open(file).convert("RGB") gives: alpha is dropped, grey and palette are expanded, 16-bit
  // grey is clipped at 255. Throws kNotFound or kIo (no such file), kCorrupt (truncated, not an
  // image), kUnsupported (another format).
  static Image load(const std::filesystem::path& file);
  // The same from memory; `name` appears in messages.
  static Image decode(std::span<const std::byte> bytes, std::string_view name);
};

}  // namespace qvlm
