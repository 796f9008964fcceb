#include "io/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm {

namespace {

// A hash in the making.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }

  void add(std::span<const std::byte> bytes) {
    check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }

  std::string finish() {
    std::array<unsigned char, 32> digest = {};
    unsigned int size = 0;
    check(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1 && size == digest.size());
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : digest) {
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
    return text;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };

  static void check(bool done) { require(done, ErrorKind::kInternal, "SHA-256 is not available"); }

  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace

std::string sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.finish();
}

std::string sha256(std::string_view text) {
  return sha256(std::as_bytes(std::span(text.data(), text.size())));
}

std::string sha256_file(const std::filesystem::path& file,
                        const std::function<void(std::int64_t)>& on_bytes) {
  constexpr std::size_t kStep = std::size_t{1} << 26;
  const MappedFile map(file);
  Sha256 hash;
  std::span<const std::byte> rest = map.bytes();
  while (!rest.empty()) {
    const std::span<const std::byte> step = rest.first(std::min(kStep, rest.size()));
    hash.add(step);
    drop_pages(step);
    if (on_bytes) on_bytes(static_cast<std::int64_t>(step.size()));
    rest = rest.subspan(step.size());
  }
  return hash.finish();
}

}  // namespace qvlm
