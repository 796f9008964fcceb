// The goldens of scripts/make_image_goldens.py, as the tests of this room ask for them.
#pragma once

#include <qvlm/image.h>

#include <filesystem>
#include <span>
#include <string>

#include "base/json.h"
#include "base/mapped_file.h"
#include "io/sha256.h"

namespace qvlm {

inline std::filesystem::path image_data() {
  return std::filesystem::path(QVLM_TESTS_DIR) / "data" / "image";
}

inline Json image_golden(const char* part) {
  static const Json golden = Json::load(image_data() / "golden.json");
  return golden.get(part);
}

template <typename T>
std::string hash_of(const std::vector<T>& values) {
  return sha256(std::as_bytes(std::span(values)));
}

}  // namespace qvlm
