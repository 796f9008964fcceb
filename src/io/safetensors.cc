#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/json.h"

namespace qvlm {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own package
constexpr std::size_t kAlignment = 64;

struct DTypeEntry {
  DType dtype;
  std::string_view name;
  std::size_t size;
};

constexpr std::array kDTypes = {
    DTypeEntry{DType::kBool, "BOOL", 1}, DTypeEntry{DType::kU8, "U8", 1},
    DTypeEntry{DType::kI8, "I8", 1},     DTypeEntry{DType::kI16, "I16", 2},
    DTypeEntry{DType::kI32, "I32", 4},   DTypeEntry{DType::kI64, "I64", 8},
    DTypeEntry{DType::kF16, "F16", 2},   DTypeEntry{DType::kBF16, "BF16", 2},
    DTypeEntry{DType::kF32, "F32", 4},   DTypeEntry{DType::kF64, "F64", 8},
};

const DTypeEntry& entry_of(DType dtype) {
  const auto found = std::find_if(kDTypes.begin(), kDTypes.end(),
                                  [&](const DTypeEntry& entry) { return entry.dtype == dtype; });
  require(found != kDTypes.end(), ErrorKind::kInternal, "unknown DType value");
  return *found;
}

DType parse_dtype(const std::string& name, const std::string& where) {
  for (const DTypeEntry& entry : kDTypes) {
    if (entry.name == name) return entry.dtype;
  }
  fail(ErrorKind::kCorrupt, where, ": unknown dtype '", name,
       "': expected BOOL, U8, I8, I16, I32, I64, F16, BF16, F32 or F64");
}

// Product of the dimensions times the element size; nothing when it does not fit 63 bits.
std::optional<std::int64_t> byte_count(const std::vector<std::int64_t>& shape, DType dtype) {
  std::int64_t bytes = static_cast<std::int64_t>(dtype_size(dtype));
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return bytes;
}

// The JSON text after the length field.
std::string_view header_text(const MappedFile& map) {
  const std::span<const std::byte> bytes = map.bytes();
  const std::string file = map.path().string();
  require(bytes.size() >= sizeof(std::uint64_t), ErrorKind::kCorrupt, file,
          ": truncated: a safetensors file has at least 8 bytes, this has ", bytes.size());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  require(length <= kMaxHeaderBytes, ErrorKind::kCorrupt, file, ": the header claims ", length,
          " bytes: expected at most ", kMaxHeaderBytes, "; not a safetensors file?");
  require(length <= bytes.size() - sizeof(length), ErrorKind::kCorrupt, file,
          ": truncated: the header claims ", length, " bytes, the file has ",
          bytes.size() - sizeof(length), " after the length field");
  return {reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length};
}

struct Range {
  std::int64_t begin = 0, end = 0;
};

// Reads the entry of one tensor and checks everything that does not depend on the other tensors.
TensorView parse_tensor(const std::string& file,
                        const std::string& name,
                        const Json& entry,
                        std::span<const std::byte> data) {
  const std::string where = file + ": tensor '" + name + "'";
  TensorView view;
  view.name = name;
  view.dtype = parse_dtype(entry.get_string("dtype"), where);
  view.shape = entry.get("shape").as_ints();
  for (const std::int64_t size : view.shape) {
    require(size >= 0, ErrorKind::kCorrupt, where, ": negative size in shape ",
            shape_text(view.shape));
  }
  const std::vector<std::int64_t> offsets = entry.get("data_offsets").as_ints();
  require(offsets.size() == 2, ErrorKind::kCorrupt, where,
          ": data_offsets: expected 2 numbers, got ", offsets.size());
  const Range range{offsets[0], offsets[1]};
  require(range.begin >= 0 && range.begin <= range.end, ErrorKind::kCorrupt, where,
          ": data_offsets are negative or reversed: ", range.begin, " to ", range.end);
  require(static_cast<std::uint64_t>(range.end) <= data.size(), ErrorKind::kCorrupt, where,
          ": data_offsets end at byte ", range.end, " of the data, but the file has only ",
          data.size(), " (truncated?)");
  const std::optional<std::int64_t> expected = byte_count(view.shape, view.dtype);
  require(expected == range.end - range.begin, ErrorKind::kCorrupt, where, ": ",
          dtype_name(view.dtype), " ", shape_text(view.shape), " takes ",
          expected ? std::to_string(*expected) : "too many", " bytes, data_offsets give ",
          range.end - range.begin);
  view.bytes = data.subspan(static_cast<std::size_t>(range.begin),
                            static_cast<std::size_t>(range.end - range.begin));
  return view;
}

// Tensors must follow each other without holes or overlaps and end where the file ends.
void check_layout(const std::string& file,
                  const std::map<std::string, TensorView>& tensors,
                  std::span<const std::byte> data) {
  std::vector<const TensorView*> order;
  for (const auto& [name, view] : tensors)
    order.push_back(&view);
  const auto ends = [&](const TensorView* view) {
    const std::size_t begin = static_cast<std::size_t>(view->bytes.data() - data.data());
    return std::pair(begin, begin + view->bytes.size());
  };
  std::sort(order.begin(), order.end(),
            [&](const TensorView* a, const TensorView* b) { return ends(a) < ends(b); });
  std::size_t next = 0;
  for (const TensorView* view : order) {
    const auto [begin, end] = ends(view);
    require(begin >= next, ErrorKind::kCorrupt, file, ": tensor '", view->name,
            "' overlaps another one: it begins at byte ", begin, ", the one before ends at ", next);
    require(begin == next, ErrorKind::kCorrupt, file, ": hole of ", begin - next,
            " bytes before tensor '", view->name, "'");
    next = end;
  }
  require(next == data.size(), ErrorKind::kCorrupt, file, ": ", data.size() - next,
          " bytes follow the last tensor and belong to none");
}

}  // namespace

std::size_t dtype_size(DType dtype) {
  return entry_of(dtype).size;
}

std::string_view dtype_name(DType dtype) {
  return entry_of(dtype).name;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::int64_t TensorView::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape)
    count *= size;
  return count;
}

std::string TensorView::describe() const {
  return join(name, " ", dtype_name(dtype), " ", shape_text(shape));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file)
    : SafetensorsFile(file, [](const std::string&, const std::string& text) {
        fail(ErrorKind::kCorrupt, text);
      }) {}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file, const Report& report)
    : map_(file) {
  const std::string path = file.string();
  const std::string_view text = header_text(map_);
  const std::span<const std::byte> data = map_.bytes().subspan(sizeof(std::uint64_t) + text.size());
  const Json header = Json::parse(text, path + " (header)");
  require(header.is_object(), ErrorKind::kCorrupt, path, ": the header is not a JSON object");
  bool whole = true;
  header.for_each([&](const std::string& name, const Json& entry) {
    if (name == "__metadata__") {
      entry.for_each(
          [&](const std::string& key, const Json& value) { metadata_[key] = value.as_string(); });
      return;
    }
    try {
      tensors_.emplace(name, parse_tensor(path, name, entry, data));
    } catch (const Error& error) {
      // A header without a key is a damaged file, not a missing one.
      whole = false;
      report(name, error.what());
    }
  });
  if (whole) check_layout(path, tensors_, data);
}

std::vector<SafetensorsProblem> SafetensorsFile::find_problems(const std::filesystem::path& file) {
  std::vector<SafetensorsProblem> problems;
  try {
    const SafetensorsFile opened(file, [&](const std::string& tensor, const std::string& text) {
      problems.push_back({tensor, text});
    });
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorrupt) throw;
    problems.push_back({"", error.what()});
  }
  return problems;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& file,
                                     std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(file), tensors_(std::move(tensors)) {
  Json header = Json::object();
  if (!metadata.empty()) {
    Json entries = Json::object();
    for (const auto& [key, value] : metadata)
      entries.set(key, value);
    header.set("__metadata__", entries);
  }
  std::int64_t offset = 0;
  for (const TensorInfo& tensor : tensors_) {
    const std::optional<std::int64_t> bytes = byte_count(tensor.shape, tensor.dtype);
    require(bytes && !header.contains(tensor.name), ErrorKind::kInternal, file.string(),
            ": tensor '", tensor.name, "' is announced twice or too large");
    Json entry = Json::object();
    Json shape = Json::array();
    for (const std::int64_t size : tensor.shape)
      shape.append(size);
    Json offsets = Json::array();
    offsets.append(offset);
    offsets.append(offset + *bytes);
    entry.set("dtype", dtype_name(tensor.dtype));
    entry.set("shape", shape);
    entry.set("data_offsets", offsets);
    header.set(tensor.name, entry);
    offset += *bytes;
  }
  std::string text = header.dump();
  // The first tensor begins at a multiple of 64 bytes, a cache line.
  text.resize((8 + text.size() + kAlignment - 1) / kAlignment * kAlignment - 8, ' ');
  const std::uint64_t length = text.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(text);
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  require(next_ < tensors_.size() && tensors_[next_].name == name, ErrorKind::kInternal,
          "safetensors writer: tensor '", name, "' is not the next one announced");
  const std::optional<std::int64_t> expected =
      byte_count(tensors_[next_].shape, tensors_[next_].dtype);
  require(static_cast<std::int64_t>(bytes.size()) == *expected, ErrorKind::kInternal,
          "safetensors writer: tensor '", name, "' has ", bytes.size(), " bytes, expected ",
          *expected);
  file_.write(bytes);
  ++next_;
}

void SafetensorsWriter::commit() {
  require(next_ == tensors_.size(), ErrorKind::kInternal,
          "safetensors writer: commit() before all tensors were written");
  file_.commit();
}

}  // namespace qvlm
