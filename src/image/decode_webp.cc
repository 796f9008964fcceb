// WebP by libwebp: still images, lossy or lossless; alpha is decoded and dropped.
#include <webp/decode.h>

#include "base/error.h"
#include "image/decoders.h"

namespace qvlm {

Image decode_webp(std::span<const std::byte> bytes, std::string_view name) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(data, bytes.size(), &features);
  require(status == VP8_STATUS_OK, ErrorKind::kCorrupt, name, ": damaged WebP: ",
          status == VP8_STATUS_NOT_ENOUGH_DATA ? "the file is truncated" : "bad header");
  require(!features.has_animation, ErrorKind::kUnsupported, name,
          ": an animated WebP; expected a still image");
  Image image = make_image(features.width, features.height, name);
  const int stride = image.width * 3;
  require(WebPDecodeRGBInto(data, bytes.size(), image.pixels.data(), image.pixels.size(), stride) !=
              nullptr,
          ErrorKind::kCorrupt, name, ": damaged WebP: the file is truncated or its data are wrong");
  return image;
}

}  // namespace qvlm
