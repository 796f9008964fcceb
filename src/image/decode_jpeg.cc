// JPEG by libjpeg-turbo with its defaults (slow integer IDCT, fancy upsampling), which are Pillow's
// too. The orientation that EXIF data may ask for is not applied, as Image.open does not apply it.
#include <array>
#include <csetjmp>
#include <cstdio>
#include <string>

#include <jpeglib.h>

#include <jerror.h>

#include "base/error.h"
#include "image/decoders.h"

namespace qvlm {
namespace {

// Everything that must outlive a longjmp out of libjpeg lives here: the functions that call libjpeg
// under setjmp hold no local that has a destructor.
struct JpegReader {
  explicit JpegReader(std::string_view file) : name(file) {}
  ~JpegReader() { jpeg_destroy_decompress(&jpeg); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  std::string_view name;
  jpeg_decompress_struct jpeg = {};
  jpeg_error_mgr errors = {};
  std::jmp_buf jump;
  std::array<char, JMSG_LENGTH_MAX> error = {};
  std::vector<JSAMPLE> samples;  // [width, components], one row
};

void on_error(j_common_ptr jpeg) {
  auto& reader = *static_cast<JpegReader*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, reader.error.data());
  std::longjmp(reader.jump, 1);
}

// libjpeg goes on after damage and fills in grey. A file that simply ends too early is an error, as
// it is for Pillow; other damage is decoded as far as it goes, as Pillow does.
void on_message(j_common_ptr jpeg, int level) {
  if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) on_error(jpeg);
}

void on_output(j_common_ptr) {}

bool read_header(JpegReader& reader, std::span<const std::byte> bytes) {
  if (setjmp(reader.jump) != 0) return false;
  jpeg_create_decompress(&reader.jpeg);
  jpeg_mem_src(&reader.jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&reader.jpeg, TRUE);
  return true;
}

bool start(JpegReader& reader) {
  if (setjmp(reader.jump) != 0) return false;
  jpeg_start_decompress(&reader.jpeg);
  return true;
}

bool read_row(JpegReader& reader) {
  if (setjmp(reader.jump) != 0) return false;
  JSAMPROW row = reader.samples.data();
  jpeg_read_scanlines(&reader.jpeg, &row, 1);  // a source in memory never makes it wait
  return true;
}

void check(bool done, const JpegReader& reader) {
  require(done, ErrorKind::kCorrupt, reader.name, ": damaged JPEG: ", reader.error.data());
}

std::uint8_t multiply_divide_255(int a, int b) {
  const int product = a * b + 128;
  return static_cast<std::uint8_t>(((product >> 8) + product) >> 8);
}

// Four inks are stored inverted (Adobe's habit, which Pillow always assumes), so a sample is the
// share of light that the ink lets through.
void expand_row(const JpegReader& reader, std::uint8_t* pixel) {
  const int components = reader.jpeg.output_components;
  const JSAMPLE* sample = reader.samples.data();
  for (JDIMENSION x = 0; x < reader.jpeg.output_width; ++x, sample += components, pixel += 3) {
    for (int c = 0; c < 3; ++c) {
      pixel[c] = components == 1 ? sample[0]
                 : components == 3
                     ? sample[c]
                     : static_cast<std::uint8_t>(sample[3] -
                                                 multiply_divide_255(255 - sample[c], sample[3]));
    }
  }
}

J_COLOR_SPACE output_space(int components) {
  if (components == 1) return JCS_GRAYSCALE;
  return components == 3 ? JCS_RGB : JCS_CMYK;
}

}  // namespace

Image decode_jpeg(std::span<const std::byte> bytes, std::string_view name) {
  JpegReader reader(name);
  reader.jpeg.err = jpeg_std_error(&reader.errors);
  reader.errors.error_exit = on_error;
  reader.errors.emit_message = on_message;
  reader.errors.output_message = on_output;
  reader.jpeg.client_data = &reader;

  check(read_header(reader, bytes), reader);
  const int components = reader.jpeg.num_components;
  require(components == 1 || components == 3 || components == 4, ErrorKind::kUnsupported, name,
          ": JPEG with ", components, " components; expected 1, 3 or 4");
  Image image = make_image(reader.jpeg.image_width, reader.jpeg.image_height, name);
  reader.jpeg.out_color_space = output_space(components);
  check(start(reader), reader);
  const std::size_t row_samples =
      std::size_t{reader.jpeg.output_width} * static_cast<unsigned>(reader.jpeg.output_components);
  reader.samples.resize(row_samples);
  for (int y = 0; y < image.height; ++y) {
    check(read_row(reader), reader);
    expand_row(reader, &image.pixels[static_cast<std::size_t>(y) * image.width * 3]);
  }
  return image;
}

}  // namespace qvlm
