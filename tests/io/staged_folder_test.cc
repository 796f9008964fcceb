// What writing a folder may remove: never the source, never a folder of other things.
#include "io/staged_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

template <typename Call>
void expect_refusal(const Call& call, const std::string& words) {
  try {
    call();
    ADD_FAILURE() << "expected a refusal with " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(words));
  }
}

class StagedFolderTest : public ::testing::Test {
 protected:
  StagedFolderTest() : place_(folder_.path()), out_(place_ / "out") {}

  // A folder with one file.
  fs::path make(const std::string& name, const std::string& file) const {
    fs::create_directories(place_ / name);
    write_text_file(place_ / name / file, "do not lose");
    return place_ / name;
  }
  static void replace(const fs::path& folder, bool overwrite) {
    StagedFolder staged(folder, overwrite);
    write_text_file(staged.path() / "new", "");
    staged.commit();
  }

  TemporaryFolder folder_;
  fs::path place_;
  fs::path out_;
};

TEST_F(StagedFolderTest, IsRefusedWhereItWouldRemoveTheSource) {
  const fs::path source = make("source", "config.json");
  fs::create_directory_symlink(source, place_ / "link");
  for (const fs::path& out : {source, source / "", place_, place_ / "source/..", source / "out",
                              source / "no/../out", place_ / "link", place_ / "link" / "out"}) {
    expect_refusal([&] { check_apart(out, source); }, "source");
    expect_refusal([&] { check_apart(out, place_ / "link"); }, "source");
  }
  // Where a folder grows, and where the old one waits.
  expect_refusal([&] { check_apart(place_ / "m", make("m.part", "config.json")); }, "remove");
  expect_refusal([&] { check_apart(place_ / "m", make("m.replaced.part", "f")); }, "remove");
  EXPECT_NO_THROW(check_apart(place_ / "source2", source));  // its name only begins alike
  EXPECT_NO_THROW(check_apart(place_ / "source/../out", source));
}

TEST_F(StagedFolderTest, OverwritesModelsOnly) {
  for (const char* mark : {"config.json", "qvlm.json"}) {
    make("out", "photo.png");
    expect_refusal([&] { replace(out_, true); }, "neither config.json nor qvlm.json");
    EXPECT_TRUE(fs::exists(out_ / "photo.png"));
    EXPECT_FALSE(fs::exists(place_ / "out.part"));
    make("out", mark);
    expect_refusal([&] { replace(out_, false); }, "ask to overwrite");
    replace(out_, true);
    EXPECT_FALSE(fs::exists(out_ / "photo.png"));
    fs::remove_all(out_);
  }
}

TEST_F(StagedFolderTest, KeepsWhatCameWhileItGrew) {
  for (const bool overwrite : {false, true}) {
    StagedFolder staged(out_, overwrite);
    make("out", "photo.png");
    expect_refusal([&] { staged.commit(); }, out_.string());
    EXPECT_TRUE(fs::exists(out_ / "photo.png"));
    fs::remove_all(out_);
  }
}

}  // namespace
}  // namespace qvlm
