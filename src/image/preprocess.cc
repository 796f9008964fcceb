#include "image/preprocess.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "image/decoders.h"
#include "image/resize.h"

namespace qvlm {
namespace {

using Color = std::array<std::uint8_t, 3>;

// A canvas of one colour.
Image filled(int width, int height, const Color& color) {
  Image image;
  image.width = width;
  image.height = height;
  image.pixels.resize(static_cast<std::size_t>(width) * height * 3);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = color[i % 3];
  return image;
}

// Copies the part of `in` that lies on `out` when its corner is put at (left, top), which may be
// negative.
void paste(const Image& in, Image& out, int left, int top) {
  const int first_x = std::max(0, -left), last_x = std::min(in.width, out.width - left);
  const int first_y = std::max(0, -top), last_y = std::min(in.height, out.height - top);
  for (int y = first_y; y < last_y; ++y) {
    const std::size_t from = (static_cast<std::size_t>(y) * in.width + first_x) * 3;
    const std::size_t to = (static_cast<std::size_t>(y + top) * out.width + first_x + left) * 3;
    std::copy_n(&in.pixels[from], (last_x - first_x) * 3, &out.pixels[to]);
  }
}

// LlavaImageProcessor.pad_to_square: the mean colour, cut to integers, around a centred image.
Image pad_to_square(const Image& image, const ProcessorConfig& config) {
  if (image.width == image.height) return image;
  const int side = std::max(image.width, image.height);
  Color color;
  for (std::size_t c = 0; c < 3; ++c)
    color[c] = static_cast<std::uint8_t>(std::clamp(config.mean[c] * 255, 0.0, 255.0));
  Image square = filled(side, side, color);
  paste(image, square, (side - image.width) / 2, (side - image.height) / 2);
  return square;
}

// The shorter side becomes `edge`, the longer one is cut (not rounded) to an integer.
Image resize_shortest_edge(const Image& image, std::int64_t edge, Resample filter) {
  const std::int64_t shorter = std::min(image.width, image.height);
  const std::int64_t longer = std::max(image.width, image.height);
  const auto other =
      static_cast<std::int64_t>(static_cast<double>(edge * longer) / static_cast<double>(shorter));
  require(edge * other <= kMaxImagePixels, ErrorKind::kUnsupported, "image of ", image.width, " x ",
          image.height, ": too long and thin, resized it would have ", edge, " x ", other,
          " pixels");
  const auto width = image.width <= image.height ? edge : other;
  const auto height = image.width <= image.height ? other : edge;
  return resize(image, static_cast<int>(width), static_cast<int>(height), filter);
}

Image resize_as_configured(const Image& image, const ProcessorConfig& config) {
  if (config.shortest_edge > 0) {
    return resize_shortest_edge(image, config.shortest_edge, config.resample);
  }
  return resize(image, static_cast<int>(config.resize_width),
                static_cast<int>(config.resize_height), config.resample);
}

// Where the image's corner lies on a canvas of the crop's size, along one axis. transformers
// divides by floor (as >> does), so of an odd difference the larger half is cut off after the
// image, or, when the image is too small, put before it.
int crop_offset(int size, int crop) {
  return -((size - crop) >> 1);
}

Image center_crop(const Image& image, const ProcessorConfig& config) {
  const int width = static_cast<int>(config.crop_width);
  const int height = static_cast<int>(config.crop_height);
  if (image.width == width && image.height == height) return image;
  Image crop = filled(width, height, {0, 0, 0});
  paste(image, crop, crop_offset(image.width, width), crop_offset(image.height, height));
  return crop;
}

// A channel has only 256 different inputs: computing them once costs nothing and keeps the
// arithmetic, which must round as numpy's does, in one place. Rescaling is done in double and
// rounded to float; normalizing is done in float.
std::array<float, 256> value_table(const ProcessorConfig& config, std::size_t channel) {
  std::array<float, 256> table;
  for (int sample = 0; sample < 256; ++sample) {
    float value = static_cast<float>(sample);
    if (config.rescale_factor != 0.0) {
      value = static_cast<float>(static_cast<double>(sample) * config.rescale_factor);
    }
    if (config.normalize) {
      const float mean = static_cast<float>(config.mean[channel]);
      value = (value - mean) / static_cast<float>(config.std[channel]);
    }
    table[static_cast<std::size_t>(sample)] = value;
  }
  return table;
}

void check_config(const ProcessorConfig& config) {
  require(config.mean.size() == 3 && config.std.size() == 3, ErrorKind::kInvalidArgument,
          "image processor: expected 3 values of image_mean and image_std, got ",
          config.mean.size(), " and ", config.std.size());
  const auto legal = [](std::int64_t side) { return side > 0 && side <= kMaxImageSide; };
  const bool sizes = config.shortest_edge > 0
                         ? legal(config.shortest_edge)
                         : legal(config.resize_width) && legal(config.resize_height);
  require(!config.resize || sizes, ErrorKind::kInvalidArgument,
          "image processor: size out of range 1..", kMaxImageSide);
  require(!config.center_crop || (legal(config.crop_width) && legal(config.crop_height)),
          ErrorKind::kInvalidArgument, "image processor: crop_size out of range 1..",
          kMaxImageSide);
}

}  // namespace

PixelValues preprocess(const Image& image, const ProcessorConfig& config) {
  require(image.width > 0 && image.height > 0, ErrorKind::kInvalidArgument, "the image is empty");
  const auto samples =
      static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * 3;
  require(image.pixels.size() == samples, ErrorKind::kInvalidArgument, "an image of ", image.width,
          " x ", image.height, " needs ", samples, " samples, got ", image.pixels.size());
  check_config(config);
  Image current = config.pad_to_square ? pad_to_square(image, config) : image;
  if (config.resize) current = resize_as_configured(current, config);
  if (config.center_crop) current = center_crop(current, config);

  PixelValues result;
  result.height = current.height;
  result.width = current.width;
  const std::size_t plane = current.pixels.size() / 3;
  result.values.resize(plane * 3);
  for (std::size_t c = 0; c < 3; ++c) {
    const std::array<float, 256> table = value_table(config, c);
    for (std::size_t i = 0; i < plane; ++i) {
      result.values[c * plane + i] = table[current.pixels[i * 3 + c]];
    }
  }
  return result;
}

}  // namespace qvlm
