#include "eval/logits_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace qvlm {

LogitsWriter::LogitsWriter(const std::filesystem::path& file) : file_(file) {
  require(!std::filesystem::is_directory(file), ErrorKind::kIo, "cannot create ", file.string(),
          ": it is a folder");
  std::string spool = file.string() + ".XXXXXX";  // a name that nothing has yet
  descriptor_ = ::mkostemp(spool.data(), O_CLOEXEC);
  require(descriptor_ >= 0, ErrorKind::kIo, "cannot create ", file.string(), ": ",
          std::strerror(errno));
  ::unlink(
      spool.c_str());  // gone from the folder at once, and from the disk however the process ends
}

LogitsWriter::~LogitsWriter() {
  ::close(descriptor_);
}

void LogitsWriter::write_row(std::int64_t row, std::span<const float> values) {
  std::span<const std::byte> bytes = std::as_bytes(values);
  auto offset = static_cast<off_t>(row * static_cast<std::int64_t>(bytes.size()));
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    require(written >= 0, ErrorKind::kIo, "cannot write ", file_.string(), ": ",
            std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
}

void LogitsWriter::commit(std::int64_t rows, std::int64_t vocab) {
  const auto size = static_cast<std::size_t>(rows * vocab) * sizeof(float);
  SafetensorsWriter writer(file_, {{"logits", DType::kF32, {rows, vocab}}}, {{"format", "pt"}});
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor_, 0);
  require(address != MAP_FAILED, ErrorKind::kIo, "cannot map ", file_.string(), ": ",
          std::strerror(errno));
  const auto unmap = [size](void* mapped) { ::munmap(mapped, size); };
  const std::unique_ptr<void, decltype(unmap)> map(address, unmap);
  writer.write("logits", {static_cast<const std::byte*>(address), size});
  writer.commit();
}

LogitsFile::LogitsFile(const std::filesystem::path& file) : file_(file) {
  const auto found = file_.tensors().find("logits");
  require(found != file_.tensors().end(), ErrorKind::kCorrupt, file.string(),
          ": the tensor 'logits' is missing");
  const TensorView& view = found->second;
  require(view.dtype == DType::kF32 && view.shape.size() == 2, ErrorKind::kCorrupt, file.string(),
          ": expected logits F32 [items, vocab], got ", view.describe());
  rows_ = view.shape[0];
  vocab_ = view.shape[1];
  // Aligned: the format pads its header to 8 bytes, and a file with one tensor has it right behind
  // the header.
  const bool aligned = reinterpret_cast<std::uintptr_t>(view.bytes.data()) % alignof(float) == 0;
  require(aligned, ErrorKind::kCorrupt, file.string(),
          ": logits do not lie on a multiple of 4 bytes");
  values_ = reinterpret_cast<const float*>(view.bytes.data());
}

std::span<const float> LogitsFile::row(std::int64_t index) const {
  assert(0 <= index && index < rows_);
  return {values_ + index * vocab_, static_cast<std::size_t>(vocab_)};
}

}  // namespace qvlm
