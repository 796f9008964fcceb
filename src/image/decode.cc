#include <array>

#include "base/error.h"
#include "base/mapped_file.h"
#include "image/decoders.h"

namespace qvlm {
namespace {

using namespace std::string_view_literals;

bool begins(std::span<const std::byte> bytes, std::string_view magic, std::size_t offset = 0) {
  if (bytes.size() < offset + magic.size()) return false;
  for (std::size_t i = 0; i < magic.size(); ++i) {
    if (bytes[offset + i] != static_cast<std::byte>(magic[i])) return false;
  }
  return true;
}

// Formats that are images but not ours, so that the message can say so.
struct OtherFormat {
  std::string_view magic;
  std::size_t offset;
  std::string_view name;
};
constexpr std::array kOtherFormats = {
    OtherFormat{"GIF8", 0, "GIF"},         OtherFormat{"BM", 0, "BMP"},
    OtherFormat{"II*\0"sv, 0, "TIFF"},     OtherFormat{"MM\0*"sv, 0, "TIFF"},
    OtherFormat{"ftypavif", 4, "AVIF"},    OtherFormat{"ftyphei", 4, "HEIF"},
    OtherFormat{"\xff\x0a", 0, "JPEG XL"}, OtherFormat{"\0\0\0\x0cjP  "sv, 0, "JPEG 2000"},
};

[[noreturn]] void refuse(std::span<const std::byte> bytes, std::string_view name) {
  require(!bytes.empty(), ErrorKind::kCorrupt, name, ": the file is empty, expected an image");
  for (const OtherFormat& format : kOtherFormats) {
    require(!begins(bytes, format.magic, format.offset), ErrorKind::kUnsupported, name, ": a ",
            format.name, " image; qvlm reads PNG, JPEG and WebP: convert it");
  }
  fail(ErrorKind::kCorrupt, name, ": not an image (expected PNG, JPEG or WebP)");
}

}  // namespace

void check_size(std::int64_t width, std::int64_t height, std::string_view name) {
  require(width > 0 && height > 0, ErrorKind::kCorrupt, name, ": image of size ", width, " x ",
          height);
  require(width <= kMaxImageSide && height <= kMaxImageSide && width * height <= kMaxImagePixels,
          ErrorKind::kUnsupported, name, ": image of ", width, " x ", height,
          " pixels: expected at most ", kMaxImageSide, " a side and ", kMaxImagePixels, " in all");
}

Image make_image(std::int64_t width, std::int64_t height, std::string_view name) {
  check_size(width, height, name);
  Image image;
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.pixels.resize(static_cast<std::size_t>(width * height * 3));
  return image;
}

Image Image::decode(std::span<const std::byte> bytes, std::string_view name) {
  if (begins(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(bytes, name);
  if (begins(bytes, "\xff\xd8\xff")) return decode_jpeg(bytes, name);
  if (begins(bytes, "RIFF") && begins(bytes, "WEBP", 8)) return decode_webp(bytes, name);
  refuse(bytes, name);
}

Image Image::load(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return decode(mapped.bytes(), file.string());
}

}  // namespace qvlm
