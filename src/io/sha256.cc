#include "io/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm {

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, 32> digest = {};
  unsigned int size = 0;
  const int done =
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  require(done == 1 && size == digest.size(), ErrorKind::kInternal, "SHA-256 is not available");
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string sha256(std::string_view text) {
  return sha256(std::as_bytes(std::span(text.data(), text.size())));
}

std::string sha256_file(const std::filesystem::path& file) {
  return sha256(MappedFile(file).bytes());
}

}  // namespace qvlm
