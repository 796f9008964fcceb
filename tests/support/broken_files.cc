#include "support/broken_files.h"

#include <cstring>
#include <fstream>

namespace qvlm {
namespace {

std::string join_parts(std::string_view header,
                       std::string_view data,
                       std::optional<std::uint64_t> claimed_length = std::nullopt) {
  const std::uint64_t length = claimed_length.value_or(header.size());
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes.append(header).append(data);
}

// {"a": F32 [2] at begin..end}
std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return std::string(R"({"a":{"dtype":")").append(dtype) + R"(","shape":)" + std::string(shape) +
         R"(,"data_offsets":)" + std::string(offsets) + "}}";
}

// Tensors a and b, F32 [2] each.
std::string two_tensors(std::string_view first, std::string_view second) {
  return std::string(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)").append(first) +
         R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + std::string(second) + "}}";
}

}  // namespace

void write_raw_safetensors(const std::filesystem::path& file,
                           std::string_view header,
                           std::string_view data,
                           std::optional<std::uint64_t> claimed_length) {
  std::ofstream(file, std::ios::binary) << join_parts(header, data, claimed_length);
}

std::vector<BrokenSafetensors> make_broken_safetensors() {
  const std::string good = one_tensor("F32", "[2]", "[0,8]");
  const std::string eight(8, 'x');
  const std::string sixteen(16, 'x');
  return {
      {"empty file", "", "truncated"},
      {"half a length field", std::string(4, '\0'), "truncated"},
      {"truncated header", join_parts(good, "", good.size() + 1), "truncated"},
      {"huge header length", join_parts(good, eight, std::uint64_t{1} << 62), "header claims"},
      {"truncated data", join_parts(good, eight.substr(1)), "'a'"},
      {"bytes behind the last tensor", join_parts(good, sixteen), "8 bytes follow"},
      {"overlap", join_parts(two_tensors("[0,8]", "[4,12]"), eight + "xxxx"), "'b' overlaps"},
      {"hole", join_parts(two_tensors("[0,8]", "[12,20]"), sixteen + "xxxx"), "'b'"},
      {"hole at the front", join_parts(one_tensor("F32", "[2]", "[8,16]"), sixteen), "hole"},
      {"reversed", join_parts(one_tensor("F32", "[2]", "[8,0]"), eight), "'a'"},
      {"negative", join_parts(one_tensor("F32", "[2]", "[-8,0]"), eight), "'a'"},
      {"oversized",
       join_parts(one_tensor("F32", "[2]", "[18446744073709551608,18446744073709551615]"), eight),
       "a.data_offsets[0]"},
      {"far outside", join_parts(one_tensor("F32", "[2]", "[0,4611686018427387904]"), eight),
       "'a'"},
      {"three offsets", join_parts(one_tensor("F32", "[2]", "[0,4,8]"), eight), "'a'"},
      {"too few bytes", join_parts(one_tensor("F32", "[3]", "[0,8]"), eight), "takes 12 bytes"},
      {"dtype of another size", join_parts(one_tensor("F16", "[2]", "[0,8]"), eight), "'a'"},
      {"product overflows", join_parts(one_tensor("F32", "[4294967296,4294967296,4]", "[0,0]"), ""),
       "too many"},
      {"negative size", join_parts(one_tensor("F32", "[-2]", "[0,8]"), eight), "negative size"},
      {"unknown dtype", join_parts(one_tensor("F8_E4M3", "[8]", "[0,8]"), eight), "F8_E4M3"},
      {"no shape", join_parts(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", eight), "shape"},
      {"duplicate name", join_parts(R"({"a":{},"a":{}})", ""), "duplicate key 'a'"},
      {"bad JSON", join_parts(good.substr(1), eight), "not valid JSON"},
      {"bad UTF-8", join_parts("{\"\xff\":1}", ""), "UTF-8"},
      {"an array", join_parts("[]", ""), "not a JSON object"},
      {"metadata that is no text", join_parts(R"({"__metadata__":{"n":1}})", ""), "__metadata__"},
  };
}

}  // namespace qvlm
