// The three decoders behind Image::decode, one file each, and the limits that they share. A decoder
// is given bytes that begin like its format; `name` (a file name) begins every message.
#pragma once

#include <qvlm/image.h>

#include <cstdint>

namespace qvlm {

// Longest side and largest area of an image that is accepted at all. The area is the one at which
// Pillow refuses a file as a decompression bomb.
inline constexpr std::int64_t kMaxImageSide = 16384;
inline constexpr std::int64_t kMaxImagePixels = 178956970;

// Throws kUnsupported when the image is larger than the limits, kCorrupt when a side is 0.
void check_size(std::int64_t width, std::int64_t height, std::string_view name);
// Checks the size and returns a black image of it.
Image make_image(std::int64_t width, std::int64_t height, std::string_view name);

Image decode_png(std::span<const std::byte> bytes, std::string_view name);
Image decode_jpeg(std::span<const std::byte> bytes, std::string_view name);
Image decode_webp(std::span<const std::byte> bytes, std::string_view name);

}  // namespace qvlm
