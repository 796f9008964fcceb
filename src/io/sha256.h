// SHA-256 of bytes and files, as 64 lower-case hexadecimal digits. The arithmetic is OpenSSL's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace qvlm {

std::string sha256(std::span<const std::byte> bytes);
std::string sha256(std::string_view text);
// `on_bytes` is told the number of bytes read since its last call; what it throws ends the reading.
// Throws kNotFound or kIo.
std::string sha256_file(const std::filesystem::path& file,
                        const std::function<void(std::int64_t)>& on_bytes = {});

}  // namespace qvlm
