// Files on disk: read-only memory maps, and atomic writes that never leave half a file behind.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace qvlm {

// A file mapped read-only into memory for as long as the object lives. Pages are read on first
// touch and shared between processes.
class MappedFile {
 public:
  // Throws kNotFound or kIo, naming the file.
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Lets go of the pages of a part of a mapped file: they no longer count as this process's memory.
// They stay readable, from the system's cache or the disk.
void drop_pages(std::span<const std::byte> bytes);

// A file under construction: written to "<file>.part", flushed to disk and renamed by commit().
// Without a commit nothing is left. Throws kIo when the system refuses (read-only folder, full
// disk), or when another AtomicFile, of any process, is at the same file.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& file);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  [[noreturn]] void fail_with_errno(const char* what);

  std::filesystem::path path_;
  std::filesystem::path part_;
  int descriptor_ = -1;
};

// Flushes the names in a folder to disk, where the system can; empty: the current folder.
void sync_folder(const std::filesystem::path& folder);

// Whole small files. Reading throws kNotFound or kIo; writing is atomic.
std::string read_text_file(const std::filesystem::path& file);
void write_text_file(const std::filesystem::path& file, std::string_view text);

}  // namespace qvlm
