#include "image/resize.h"

#include <gtest/gtest.h>
#include <qvlm/error.h>

#include <algorithm>

#include "image/golden.h"

namespace qvlm {
namespace {

Resample filter_named(const std::string& name) {
  if (name == "nearest") return Resample::kNearest;
  if (name == "lanczos") return Resample::kLanczos;
  return name == "bilinear" ? Resample::kBilinear : Resample::kBicubic;
}

TEST(Resize, EqualsPillowBitForBit) {
  const Image source = Image::load(image_data() / "rgb.png");
  const Json cases = image_golden("resized");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Json expected = cases.at(i);
    const int width = static_cast<int>(expected.get_int("width"));
    const int height = static_cast<int>(expected.get_int("height"));
    const Image result = resize(source, width, height, filter_named(expected.get_string("filter")));
    EXPECT_EQ(hash_of(result.pixels), expected.get_string("sha256"))
        << expected.get_string("filter") << " to " << width << " x " << height;
  }
  EXPECT_GE(cases.size(), 50u);
}

// Weights sum to 1 up to the rounding of each, at most 2^-23 times the number of weights: far below
// the half level that would show.
TEST(Resize, KeepsOneColor) {
  Image image{50, 31, std::vector<std::uint8_t>(50 * 31 * 3, 201)};
  for (const Resample filter :
       {Resample::kNearest, Resample::kLanczos, Resample::kBilinear, Resample::kBicubic}) {
    for (const auto& [width, height] : {std::pair{7, 90}, {120, 4}, {1, 1}}) {
      const Image result = resize(image, width, height, filter);
      ASSERT_EQ(result.pixels.size(), static_cast<std::size_t>(width) * height * 3);
      EXPECT_EQ(std::count(result.pixels.begin(), result.pixels.end(), 201),
                static_cast<std::ptrdiff_t>(result.pixels.size()));
    }
  }
}

TEST(Resize, RefusesSizesThatAreNotPositive) {
  const Image image{2, 2, std::vector<std::uint8_t>(12)};
  EXPECT_THROW(resize(image, 0, 5, Resample::kBicubic), Error);
  EXPECT_THROW(resize(image, 5, -1, Resample::kNearest), Error);
  EXPECT_THROW(resize(Image{}, 5, 5, Resample::kBilinear), Error);
}

}  // namespace
}  // namespace qvlm
