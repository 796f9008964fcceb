// The safetensors format: an 8-byte little-endian header length, a JSON header, raw little-endian
// tensors. Readers hand out views into a memory map; every field is checked against the file size
// before use. Which tensor means what is io/checkpoint.h's and io/name_map.h's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"

namespace qvlm {

enum class DType { kBool, kU8, kI8, kI16, kI32, kI64, kF16, kBF16, kF32, kF64 };

std::size_t dtype_size(DType dtype);       // bytes per element
std::string_view dtype_name(DType dtype);  // as the format spells it: "BF16"

std::string shape_text(const std::vector<std::int64_t>& shape);  // "[2048, 256]"

// A tensor inside a mapped file. `bytes` stays valid as long as the file object it came from.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  std::int64_t elements() const;
  std::string describe() const;  // "lm_head.weight BF16 [2048, 256]"
};

// One thing that is wrong with a file.
struct SafetensorsProblem {
  std::string tensor;  // empty: the header as a whole
  std::string text;    // names the file
};

class SafetensorsFile {
 public:
  // Maps the file and checks its header. Throws kNotFound, kIo, or kCorrupt for a truncated file, a
  // header longer than the file or 100 MB, bad JSON, a duplicate name, an unknown dtype, reversed,
  // overlapping or out-of-range offsets, holes, or a byte count that contradicts dtype and shape;
  // the text names file and tensor.
  explicit SafetensorsFile(const std::filesystem::path& file);
  // All that the constructor could throw kCorrupt for, as far as it can be told: tensors are not
  // looked at in a header that cannot be read, nor their layout where one is wrong. Throws
  // kNotFound or kIo.
  static std::vector<SafetensorsProblem> find_problems(const std::filesystem::path& file);

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return map_.path(); }

 private:
  // Told of a problem; returns to go on with the next tensor.
  using Report = std::function<void(const std::string& tensor, const std::string& text)>;

  SafetensorsFile(const std::filesystem::path& file, const Report& report);

  MappedFile map_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

// What a file will hold; sizes are known before any tensor is.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
};

// Writes one file, a tensor at a time in the order announced, so that memory never holds more than
// one. Nothing appears under the final name before commit().
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& file,
                    std::vector<TensorInfo> tensors,
                    const std::map<std::string, std::string>& metadata);
  // Throws kInternal if `name` is not the next one or the byte count is wrong; kIo when the disk is
  // full.
  void write(std::string_view name, std::span<const std::byte> bytes);
  void commit();

 private:
  AtomicFile file_;
  std::vector<TensorInfo> tensors_;
  std::size_t next_ = 0;
};

}  // namespace qvlm
