#include "image/resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace qvlm {
namespace {

// Weights are integers of this many fractional bits: 32 less 8 for the sample less 2 for filters
// whose weights sum to more than 1 on one side.
constexpr int kFractionBits = 32 - 8 - 2;

struct Filter {
  double (*weight)(double x);
  double support;
};

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

// Keys' cubic with a = -0.5. The order of operations is Pillow's, so that weights agree to the last
// bit.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos(double x) {
  return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

Filter filter_of(Resample filter) {
  switch (filter) {
    case Resample::kBilinear:
      return {bilinear, 1.0};
    case Resample::kBicubic:
      return {bicubic, 2.0};
    case Resample::kLanczos:
      return {lanczos, 3.0};
    case Resample::kNearest:
      break;
  }
  fail(ErrorKind::kInternal, "resize: this filter has no weights");
}

// Which inputs make an output along one axis, and with what weights.
struct Window {
  int first = 0;
  std::vector<std::int32_t> weights;
};

Window make_window(int index, int in_size, double scale, const Filter& filter) {
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double center = (index + 0.5) * scale;
  const double step = 1.0 / filter_scale;
  Window window;
  window.first = std::max(static_cast<int>(center - support + 0.5), 0);
  const int last = std::min(static_cast<int>(center + support + 0.5), in_size);

  std::vector<double> real;
  double sum = 0.0;
  for (int x = window.first; x < last; ++x) {
    real.push_back(filter.weight((x - center + 0.5) * step));
    sum += real.back();
  }
  for (double weight : real) {
    if (sum != 0.0) weight /= sum;
    const double scaled = weight * (1 << kFractionBits);
    window.weights.push_back(static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
  }
  return window;
}

std::vector<Window> make_windows(int in_size, int out_size, const Filter& filter) {
  const double scale = static_cast<double>(in_size) / out_size;
  std::vector<Window> windows;
  windows.reserve(static_cast<std::size_t>(out_size));
  for (int i = 0; i < out_size; ++i)
    windows.push_back(make_window(i, in_size, scale, filter));
  return windows;
}

Image blank(int width, int height) {
  Image image;
  image.width = width;
  image.height = height;
  image.pixels.resize(static_cast<std::size_t>(width) * height * 3);
  return image;
}

std::uint8_t to_sample(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

constexpr std::int32_t kHalf = 1 << (kFractionBits - 1);

Image resize_rows(const Image& in, int width, const Filter& filter) {
  const std::vector<Window> windows = make_windows(in.width, width, filter);
  Image out = blank(width, in.height);
  std::uint8_t* target = out.pixels.data();
  for (int y = 0; y < in.height; ++y) {
    const std::uint8_t* row = &in.pixels[static_cast<std::size_t>(y) * in.width * 3];
    for (const Window& window : windows) {
      const std::uint8_t* sample = row + window.first * 3;
      std::int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (const std::int32_t weight : window.weights) {
        red += sample[0] * weight;
        green += sample[1] * weight;
        blue += sample[2] * weight;
        sample += 3;
      }
      target[0] = to_sample(red);
      target[1] = to_sample(green);
      target[2] = to_sample(blue);
      target += 3;
    }
  }
  return out;
}

Image resize_columns(const Image& in, int height, const Filter& filter) {
  const std::vector<Window> windows = make_windows(in.height, height, filter);
  const std::size_t stride = static_cast<std::size_t>(in.width) * 3;
  Image out = blank(in.width, height);
  std::vector<std::int32_t> sums(stride);
  std::uint8_t* target = out.pixels.data();
  for (const Window& window : windows) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const std::uint8_t* row = &in.pixels[static_cast<std::size_t>(window.first) * stride];
    for (const std::int32_t weight : window.weights) {
      for (std::size_t i = 0; i < stride; ++i)
        sums[i] += row[i] * weight;
      row += stride;
    }
    for (const std::int32_t sum : sums)
      *target++ = to_sample(sum);
  }
  return out;
}

// Source positions of Pillow's nearest neighbour, which adds the step up instead of multiplying it.
std::vector<int> nearest_positions(int in_size, int out_size) {
  const double step = static_cast<double>(in_size) / out_size;
  double position = step * 0.5;
  std::vector<int> positions;
  for (int i = 0; i < out_size; ++i, position += step) {
    positions.push_back(std::min(static_cast<int>(position), in_size - 1));
  }
  return positions;
}

Image resize_nearest(const Image& in, int width, int height) {
  const std::vector<int> columns = nearest_positions(in.width, width);
  Image out = blank(width, height);
  std::uint8_t* target = out.pixels.data();
  for (const int y : nearest_positions(in.height, height)) {
    const std::uint8_t* row = &in.pixels[static_cast<std::size_t>(y) * in.width * 3];
    for (const int x : columns)
      target = std::copy_n(row + x * 3, 3, target);
  }
  return out;
}

// Passes round to 8 bits, so their order shows. Pillow 13 starts with the columns when the height
// shrinks more than twice as much as the width (in pixels, not in proportion); older ones never do.
bool rows_last(const Image& image, int width, int height) {
  return image.height > height && image.height - height > 2 * (image.width - width);
}

}  // namespace

Image resize(const Image& image, int width, int height, Resample filter) {
  require(image.width > 0 && image.height > 0 && width > 0 && height > 0,
          ErrorKind::kInvalidArgument, "cannot resize an image of ", image.width, " x ",
          image.height, " to ", width, " x ", height);
  if (width == image.width && height == image.height) return image;
  if (filter == Resample::kNearest) return resize_nearest(image, width, height);
  const Filter chosen = filter_of(filter);
  if (width == image.width) return resize_columns(image, height, chosen);
  if (height == image.height) return resize_rows(image, width, chosen);
  if (rows_last(image, width, height)) {
    return resize_rows(resize_columns(image, height, chosen), width, chosen);
  }
  return resize_columns(resize_rows(image, width, chosen), height, chosen);
}

}  // namespace qvlm
