#include "image/preprocess.h"

#include <gtest/gtest.h>
#include <qvlm/error.h>

#include "image/golden.h"

namespace qvlm {
namespace {

std::vector<double> doubles(const Json& json) {
  std::vector<double> values;
  for (std::size_t i = 0; i < json.size(); ++i)
    values.push_back(json.at(i).as_double());
  return values;
}

// The settings that the golden's processor was made with; the rest are the class defaults.
ProcessorConfig config_of(const Json& settings) {
  ProcessorConfig config;
  config.resize = settings.get_bool("do_resize", true);
  config.center_crop = settings.get_bool("do_center_crop", true);
  config.normalize = settings.get_bool("do_normalize", true);
  config.pad_to_square = settings.get_bool("do_pad", false);
  config.resample = static_cast<Resample>(settings.get_int("resample", 3));
  config.rescale_factor = settings.get_double("rescale_factor", 1.0 / 255.0);
  if (!settings.get_bool("do_rescale", true)) config.rescale_factor = 0.0;
  if (settings.contains("size")) {
    const Json size = settings.get("size");
    config.shortest_edge = size.get_int("shortest_edge", 0);
    config.resize_height = size.get_int("height", 0);
    config.resize_width = size.get_int("width", 0);
  }
  if (settings.contains("crop_size")) {
    config.crop_height = settings.get("crop_size").get_int("height");
    config.crop_width = settings.get("crop_size").get_int("width");
  }
  if (settings.contains("image_mean")) config.mean = doubles(settings.get("image_mean"));
  if (settings.contains("image_std")) config.std = doubles(settings.get("image_std"));
  return config;
}

TEST(Preprocess, EqualsTransformersBitForBit) {
  const Image image = Image::load(image_data() / "rgb.png");
  const Json cases = image_golden("preprocessed");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Json expected = cases.at(i);
    SCOPED_TRACE(expected.get("settings").dump());
    const PixelValues result = preprocess(image, config_of(expected.get("settings")));
    EXPECT_EQ((std::vector<std::int64_t>{3, result.height, result.width}),
              expected.get("shape").as_ints());
    EXPECT_EQ(hash_of(result.values), expected.get_string("sha256"));
  }
  EXPECT_GE(cases.size(), 9u);
}

TEST(Preprocess, RefusesWhatItCannotDo) {
  const Image image = Image::load(image_data() / "rgb.png");
  EXPECT_THROW(preprocess(Image{}, ProcessorConfig{}), Error);

  ProcessorConfig wrong;
  wrong.mean = {0.5};
  EXPECT_THROW(preprocess(image, wrong), Error);
  wrong = ProcessorConfig{};
  wrong.shortest_edge = 0;
  EXPECT_THROW(preprocess(image, wrong), Error);  // neither an edge nor height and width
  wrong = ProcessorConfig{};
  wrong.crop_width = 1 << 30;
  EXPECT_THROW(preprocess(image, wrong), Error);

  const Image thin{16000, 1, std::vector<std::uint8_t>(48000)};
  EXPECT_THROW(preprocess(thin, ProcessorConfig{}), Error);  // would be 3584000 x 224
}

}  // namespace
}  // namespace qvlm
