// SHA-256 of bytes and files, as 64 lower-case hexadecimal digits. The arithmetic is OpenSSL's.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace qvlm {

std::string sha256(std::span<const std::byte> bytes);
std::string sha256(std::string_view text);
// Throws kNotFound or kIo.
std::string sha256_file(const std::filesystem::path& file);

}  // namespace qvlm
