#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace qvlm {
namespace {

// Opens for reading; the caller closes. Throws kNotFound for a missing file, kIo for any other
// refusal. O_NONBLOCK, which regular files do not heed, keeps a pipe from waiting for a writer.
int open_for_reading(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int code = errno;
    fail(code == ENOENT || code == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kIo, "cannot open ",
         file.string(), ": ", std::strerror(code));
  }
  struct stat info = {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    fail(ErrorKind::kIo, "cannot read ", file.string(), ": it is not a regular file");
  }
  return descriptor;
}

// Whether the name still leads to the open file.
bool is_at(const std::filesystem::path& file, int descriptor) {
  struct stat open_one = {}, named = {};
  return ::fstat(descriptor, &open_one) == 0 && ::stat(file.c_str(), &named) == 0 &&
         open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

// Opens an empty file for writing that no other writer has; -1, and errno is EWOULDBLOCK where one
// has. What a killed writer left is taken over.
int open_for_writing(const std::filesystem::path& file) {
  while (true) {
    const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) return -1;
    const bool busy = ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    // Between the two calls another writer may have finished and renamed this very file.
    const bool mine = !busy && is_at(file, descriptor);
    if (mine && ::ftruncate(descriptor, 0) == 0) return descriptor;
    const int code = busy ? EWOULDBLOCK : errno;
    ::close(descriptor);
    errno = code;
    if (busy || mine) return -1;
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) : path_(file) {
  const int descriptor = open_for_reading(file);
  struct stat info = {};
  ::fstat(descriptor, &info);
  size_ = static_cast<std::size_t>(info.st_size);
  void* address =
      size_ == 0 ? nullptr : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
  const int code = errno;
  ::close(descriptor);
  require(address != MAP_FAILED, ErrorKind::kIo, "cannot map ", file.string(), ": ",
          std::strerror(code));
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void drop_pages(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t begin = address / page * page;
  // A file's pages come back when they are touched, so that cutting into neighbours costs little
  // and failing to drop costs memory only.
  ::madvise(reinterpret_cast<void*>(begin), address + bytes.size() - begin, MADV_DONTNEED);
}

AtomicFile::AtomicFile(const std::filesystem::path& file)
    : path_(file), part_(file.string() + ".part") {
  descriptor_ = open_for_writing(part_);
  if (descriptor_ >= 0) return;
  if (errno == EWOULDBLOCK)
    fail(ErrorKind::kIo, "cannot create ", path_.string(), ": another run is writing it");
  fail_with_errno("cannot create");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::unlink(part_.c_str());  // before the lock goes: behind it the name is the next writer's
  ::close(descriptor_);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("cannot write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_with_errno("cannot write");
  if (::rename(part_.c_str(), path_.c_str()) != 0) fail_with_errno("cannot rename");
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder(path_.parent_path());
}

void AtomicFile::fail_with_errno(const char* what) {
  const int code = errno;
  const char* advice =
      code == ENOSPC ? "; free some space and run again, nothing half-written was left" : "";
  fail(ErrorKind::kIo, what, " ", path_.string(), ": ", std::strerror(code), advice);
}

std::string read_text_file(const std::filesystem::path& file) {
  const MappedFile map(file);
  return std::string(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size());
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor =
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

void write_text_file(const std::filesystem::path& file, std::string_view text) {
  AtomicFile out(file);
  out.write(text);
  out.commit();
}

}  // namespace qvlm
