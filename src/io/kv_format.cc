#include "io/kv_format.h"

#include <array>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "io/quantization_config.h"

namespace qvlm {
namespace {

constexpr std::array kFormats = {
    std::pair{"float32", KvFormat::kFloat32},
    std::pair{"bf16", KvFormat::kBfloat16},
    std::pair{"int8", KvFormat::kInt8},
    std::pair{"int4", KvFormat::kInt4},
};

}  // namespace

const char* kv_format_name(KvFormat format) {
  for (const auto& [name, value] : kFormats) {
    if (value == format) return name;
  }
  fail(ErrorKind::kInternal, "unknown KvFormat value");
}

std::optional<KvFormat> find_kv_format(std::string_view name) {
  for (const auto& [known, value] : kFormats) {
    if (name == known) return value;
  }
  return std::nullopt;
}

KvFormat choose_kv_format(const Checkpoint& checkpoint, std::optional<KvFormat> asked) {
  const std::filesystem::path file = checkpoint.folder() / kOwnFile;
  if (asked || !std::filesystem::exists(file)) return asked.value_or(KvFormat::kFloat32);
  const Json json = Json::load(file);
  if (json.get_string("format", "") != kOwnFormat) return KvFormat::kFloat32;
  const std::string name = json.get_string("kv_cache", "float32");
  const std::optional<KvFormat> format = find_kv_format(name);
  require(format.has_value(), ErrorKind::kUnsupported, json.where(), ".kv_cache: unknown format '",
          name, "'; known are ", kKvFormatNames);
  return *format;
}

}  // namespace qvlm
