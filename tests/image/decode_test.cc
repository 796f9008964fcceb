#include <gtest/gtest.h>
#include <qvlm/error.h>

#include <cstdlib>
#include <fstream>

#include "base/random.h"
#include "image/decoders.h"
#include "image/golden.h"

namespace qvlm {
namespace {

std::string read(const std::string& name) {
  return read_text_file(image_data() / name);
}

Image decode(std::string_view bytes, std::string_view name = "test image") {
  return Image::decode(std::as_bytes(std::span(bytes)), name);
}

// The kind and text of the Error that decoding throws; fails the test when there is none.
Error error_of(std::string_view bytes) {
  try {
    decode(bytes, "broken.file");
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "decoding succeeded";
  return Error(ErrorKind::kInternal, "");
}

void expect_error(std::string_view bytes, ErrorKind kind, const std::string& text) {
  const Error error = error_of(bytes);
  EXPECT_EQ(error.kind(), kind) << error.what();
  EXPECT_NE(std::string(error.what()).find("broken.file"), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
}

TEST(Decode, EqualsPillowForEveryKindOfFile) {
  std::size_t files = 0;
  image_golden("decoded").for_each([&](const std::string& name, const Json& expected) {
    SCOPED_TRACE(name);
    const Image image = Image::load(image_data() / name);
    EXPECT_EQ(image.width, expected.get_int("width"));
    EXPECT_EQ(image.height, expected.get_int("height"));
    EXPECT_EQ(hash_of(image.pixels), expected.get_string("sha256"));
    ++files;
  });
  EXPECT_GT(files, 30u);
}

// Where Pillow refuses a file that was cut off, so do we; where it decodes (nothing but the end
// mark is missing), the pixels are the same.
TEST(Decode, RefusesTruncatedFilesWherePillowDoes) {
  const Json cases = image_golden("truncated");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Json expected = cases.at(i);
    const std::string bytes = read(expected.get_string("file"))
                                  .substr(0, static_cast<std::size_t>(expected.get_int("bytes")));
    SCOPED_TRACE(expected.get_string("file") + " cut to " + std::to_string(bytes.size()));
    if (expected.find("sha256").is_null()) {
      expect_error(bytes, ErrorKind::kCorrupt, "");
    } else {
      EXPECT_EQ(hash_of(decode(bytes).pixels), expected.get_string("sha256"));
    }
  }
}

TEST(Decode, NamesWhatIsNotAnImage) {
  expect_error("", ErrorKind::kCorrupt, "empty");
  expect_error("just a text file\n", ErrorKind::kCorrupt, "not an image");
  expect_error("\x89PNG", ErrorKind::kCorrupt, "not an image");
  expect_error("GIF89a............", ErrorKind::kUnsupported, "GIF");
  expect_error("BM..............", ErrorKind::kUnsupported, "BMP");
  expect_error(std::string_view("II*\0........", 12), ErrorKind::kUnsupported, "TIFF");
}

TEST(Decode, NamesMissingFiles) {
  try {
    Image::load(image_data() / "missing.png");
    FAIL() << "loaded a missing file";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_NE(std::string(error.what()).find("missing.png"), std::string::npos);
  }
  EXPECT_THROW(Image::load(image_data()), Error);  // a folder
}

// Overwrites big-endian 32-bit numbers of a PNG's header and mends its checksum.
std::string with_png_size(std::uint32_t width, std::uint32_t height) {
  std::string bytes = read("rgb.png");
  const auto put = [&](std::size_t at, std::uint32_t value) {
    for (int i = 0; i < 4; ++i)
      bytes[at + i] = static_cast<char>(value >> (24 - 8 * i));
  };
  put(16, width);
  put(20, height);
  std::uint32_t crc = 0xffffffffu;
  for (std::size_t i = 12; i < 29; ++i) {
    crc ^= static_cast<unsigned char>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0u);
  }
  put(29, ~crc);
  return bytes;
}

TEST(Decode, RefusesAbsurdSizes) {
  ASSERT_EQ(with_png_size(37, 23), read("rgb.png")) << "the checksum code of this test is wrong";
  expect_error(with_png_size(0, 23), ErrorKind::kCorrupt, "PNG");
  expect_error(with_png_size(20000, 10), ErrorKind::kUnsupported, "20000 x 10");
  expect_error(with_png_size(0x7fffffff, 0x7fffffff), ErrorKind::kUnsupported, "at most");
  expect_error(with_png_size(16384, 16384), ErrorKind::kUnsupported, "at most");
  expect_error(with_png_size(13000, 13000), ErrorKind::kCorrupt, "cannot hold");
  expect_error(with_png_size(37, 24), ErrorKind::kCorrupt, "PNG");

  std::string jpeg = read("grey.jpg");
  const std::size_t frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  jpeg[frame + 5] = '\x7f';  // high byte of the height
  expect_error(jpeg, ErrorKind::kUnsupported, "at most");
}

// Damage anywhere gives an image or an Error, never a crash; with sanitizers on this is the real
// test.
TEST(Decode, SurvivesDamage) {
  Random random(11);
  image_golden("decoded").for_each([&](const std::string& name, const Json&) {
    const std::string whole = read(name);
    for (int round = 0; round < 60; ++round) {
      std::string bytes =
          whole.substr(0, round % 3 == 0 ? random.below(whole.size()) : whole.size());
      for (int flips = 0; flips < 1 + round % 5 && !bytes.empty(); ++flips) {
        bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
      }
      try {
        const Image image = decode(bytes, name);
        EXPECT_EQ(image.pixels.size(), static_cast<std::size_t>(image.width) * image.height * 3);
      } catch (const Error&) {
      }
    }
  });
}

TEST(DecodeTestData, EqualsPillowOnRealImages) {
  const char* data = std::getenv("QVLM_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "QVLM_TEST_DATA is not set";
  const std::filesystem::path folder = std::filesystem::path(data) / "nlvr" / "images";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " does not exist";
  Json::load(image_data() / "nlvr.json")
      .for_each([&](const std::string& name, const Json& expected) {
        EXPECT_EQ(hash_of(Image::load(folder / name).pixels), expected.get_string("sha256"))
            << name;
      });
}

}  // namespace
}  // namespace qvlm
