// PNG by libpng, to the pixels of Pillow's convert("RGB"). No colour management: gamma and profiles
// are ignored, and so is transparency.
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>
#include <string>

#include "base/error.h"
#include "image/decoders.h"

namespace qvlm {
namespace {

// Everything that must outlive a longjmp out of libpng lives here: the functions that call libpng
// under setjmp hold no local that has a destructor.
struct PngReader {
  PngReader(std::span<const std::byte> data, std::string_view file) : bytes(data), name(file) {}
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  std::span<const std::byte> bytes;
  std::string_view name;
  std::size_t position = 0;
  std::array<char, 128> error = {};

  png_structp png = nullptr;
  png_infop info = nullptr;
  png_uint_32 width = 0, height = 0;
  int depth = 0, color = 0;

  std::vector<png_byte> samples;  // [height, row_bytes]
  std::vector<png_bytep> rows;
  std::size_t row_bytes = 0;
};

void on_error(png_structp png, png_const_charp message) {
  auto& reader = *static_cast<PngReader*>(png_get_error_ptr(png));
  std::strncpy(reader.error.data(), message, reader.error.size() - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep target, std::size_t count) {
  auto& reader = *static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > reader.bytes.size() - reader.position) png_error(png, "the file is truncated");
  std::memcpy(target, reader.bytes.data() + reader.position, count);
  reader.position += count;
}

bool read_header(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_read_fn(reader.png, &reader, read_bytes);
  png_set_user_limits(reader.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // ours have a better message
  png_read_info(reader.png, reader.info);
  png_get_IHDR(reader.png, reader.info, &reader.width, &reader.height, &reader.depth, &reader.color,
               nullptr, nullptr, nullptr);
  return true;
}

// 1, 2 and 4-bit samples become bytes: grey is scaled to 0..255, palette indices stay as they are.
bool choose_layout(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  if (reader.color == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(reader.png);
  if (reader.color == PNG_COLOR_TYPE_PALETTE) png_set_packing(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  reader.row_bytes = png_get_rowbytes(reader.png, reader.info);
  return true;
}

// What follows the pixels is not read: Pillow accepts a file without its end as well.
bool read_rows(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_read_image(reader.png, reader.rows.data());
  return true;
}

void check(bool done, const PngReader& reader) {
  require(done, ErrorKind::kCorrupt, reader.name, ": damaged PNG: ", reader.error.data());
}

// Deflate cannot shrink more than 1032 times, so a small file that promises a huge image is refused
// before memory is taken.
void check_promise(const PngReader& reader) {
  const std::size_t bits =
      std::size_t{png_get_channels(reader.png, reader.info)} * static_cast<unsigned>(reader.depth);
  const std::size_t promised = reader.height * ((reader.width * bits + 7) / 8);
  require(promised / 1032 <= reader.bytes.size(), ErrorKind::kCorrupt, reader.name,
          ": damaged PNG: ", reader.bytes.size(), " bytes cannot hold ", reader.width, " x ",
          reader.height, " pixels");
}

void expand_palette(PngReader& reader, Image& image) {
  png_colorp colors = nullptr;
  int count = 0;
  png_get_PLTE(reader.png, reader.info, &colors, &count);
  std::array<std::uint8_t, 256 * 3> table =
      {};  // indices beyond the palette are black, as in Pillow
  for (int i = 0; i < count && i < 256; ++i) {
    table[i * 3] = colors[i].red;
    table[i * 3 + 1] = colors[i].green;
    table[i * 3 + 2] = colors[i].blue;
  }
  for (std::size_t i = 0; i < reader.samples.size(); ++i) {
    std::memcpy(&image.pixels[i * 3], &table[reader.samples[i] * 3], 3);
  }
}

// Grey and colour, with or without alpha. Of 16-bit samples the high byte counts, except that
// Pillow reads plain 16-bit grey as a number and cuts it off at 255.
void expand_samples(PngReader& reader, Image& image) {
  const std::size_t bytes = reader.depth == 16 ? 2 : 1;
  const std::size_t channels = png_get_channels(reader.png, reader.info);
  const bool colored = channels >= 3;
  const bool saturate = bytes == 2 && channels == 1;
  const std::size_t count = image.pixels.size() / 3;
  const png_byte* sample = reader.samples.data();
  for (std::size_t i = 0; i < count; ++i, sample += channels * bytes) {
    std::uint8_t* pixel = &image.pixels[i * 3];
    for (std::size_t c = 0; c < 3; ++c)
      pixel[c] = sample[colored ? c * bytes : 0];
    if (saturate) std::memset(pixel, sample[0] != 0 ? 255 : sample[1], 3);
  }
}

}  // namespace

Image decode_png(std::span<const std::byte> bytes, std::string_view name) {
  PngReader reader(bytes, name);
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
  if (reader.png != nullptr) reader.info = png_create_info_struct(reader.png);
  require(reader.info != nullptr, ErrorKind::kResource, name, ": no memory to read a PNG");

  check(read_header(reader), reader);
  check_size(reader.width, reader.height, name);
  check_promise(reader);
  Image image = make_image(reader.width, reader.height, name);
  check(choose_layout(reader), reader);
  reader.samples.resize(reader.row_bytes * reader.height);
  for (std::size_t y = 0; y < reader.height; ++y) {
    reader.rows.push_back(reader.samples.data() + y * reader.row_bytes);
  }
  check(read_rows(reader), reader);
  if (reader.color == PNG_COLOR_TYPE_PALETTE) {
    expand_palette(reader, image);
  } else {
    expand_samples(reader, image);
  }
  return image;
}

}  // namespace qvlm
