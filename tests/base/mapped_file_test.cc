#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "base/error.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

template <typename Call>
ErrorKind failure_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no failure";
  return ErrorKind::kInternal;
}

TEST(MappedFile, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  const std::string text("a\0b\n", 4);
  write_text_file(folder.path() / "f", text);
  EXPECT_EQ(read_text_file(folder.path() / "f"), text);
  write_text_file(folder.path() / "f", "");
  EXPECT_TRUE(MappedFile(folder.path() / "f").bytes().empty());
  EXPECT_EQ(read_text_file(folder.path() / "f"), "");
}

TEST(MappedFile, TellsMissingFromUnreadable) {
  const TemporaryFolder folder;
  EXPECT_EQ(failure_of([&] { MappedFile(folder.path() / "none"); }), ErrorKind::kNotFound);
  EXPECT_EQ(failure_of([&] { MappedFile map(folder.path()); }), ErrorKind::kIo);
  ASSERT_EQ(mkfifo((folder.path() / "pipe").c_str(), 0600), 0);  // opening it would wait for ever
  EXPECT_EQ(failure_of([&] { MappedFile map(folder.path() / "pipe"); }), ErrorKind::kIo);
}

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "f";
  write_text_file(path, "old");
  {
    AtomicFile file(path);
    file.write("half of the n");
    EXPECT_EQ(read_text_file(path), "old");
  }
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  AtomicFile file(path);
  file.write("new");
  file.commit();
  EXPECT_EQ(read_text_file(path), "new");
}

// Two writers at once would mix their bytes.
TEST(AtomicFile, HasOneWriterAtATime) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "a.txt";
  std::ofstream(file.string() + ".part") << "what a killed writer left";
  AtomicFile first(file);
  first.write("first");
  try {
    AtomicFile second(file);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_NE(std::string(error.what()).find("a.txt: another run"), std::string::npos);
  }
  first.commit();
  EXPECT_EQ(read_text_file(file), "first");
  write_text_file(file, "next");
  EXPECT_EQ(read_text_file(file), "next");
}

TEST(AtomicFile, ARefusedFileIsAnIoErrorWithItsName) {
  const TemporaryFolder folder;
  try {
    AtomicFile file(folder.path() / "no" / "f");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_THAT(error.what(), HasSubstr("no/f"));
  }
  // A folder of that name: writing works, the rename is refused and nothing is left.
  fs::create_directory(folder.path() / "d");
  EXPECT_EQ(failure_of([&] { write_text_file(folder.path() / "d", "x"); }), ErrorKind::kIo);
  EXPECT_FALSE(fs::exists(folder.path() / "d.part"));
}

}  // namespace
}  // namespace qvlm
