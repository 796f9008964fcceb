// Damage at random places of a folder that qvlm wrote: each is reported, with the file and the
// tensors that it hits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/verify.h>

#include <cstring>
#include <set>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/parallel.h"
#include "base/random.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::IsEmpty;

constexpr int kTrials = 200;
constexpr const char* kWeights = "model.safetensors";

// Where a tensor lies in the weight file, as its header says.
struct Place {
  std::string tensor;
  std::size_t begin = 0, end = 0;
};

std::vector<Place> read_places(const std::string& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  std::vector<Place> places;
  Json::parse(file.substr(sizeof(length), length), "header")
      .for_each([&](const std::string& name, const Json& entry) {
        if (name == "__metadata__") return;
        const std::vector<std::int64_t> offsets = entry.get("data_offsets").as_ints();
        const std::size_t data = sizeof(length) + length;
        places.push_back({name, data + static_cast<std::size_t>(offsets[0]),
                          data + static_cast<std::size_t>(offsets[1])});
      });
  return places;
}

class VerifyDamageTest : public testing::Test {
 protected:
  VerifyDamageTest() : out_(folder_.path() / "out") {
    set_thread_count(1);  // so little work is mostly waiting where other programs keep cores busy
    const Scheme tokens{.bits = 8, .granularity = Granularity::kToken, .dynamic = true};
    const Scheme groups{
        .bits = 4, .symmetric = false, .granularity = Granularity::kGroup, .group_size = 32};
    make_tiny_model(folder_.path() / "source", "runtime_gqa");
    quantize(folder_.path() / "source", out_,
             {.name = "test",
              .standard = LinearScheme{{.bits = 8}, tokens, {}},
              .overrides = {{"decoder\\..*(gate|up)_proj", LinearScheme{groups, tokens, {}}},
                            {"lm_head", std::nullopt}}});
    for (const auto& entry : fs::directory_iterator(out_))
      files_.push_back(entry.path().filename().string());
    std::ranges::sort(files_);
    places_ = read_places(read_text_file(out_ / kWeights));
  }

  ~VerifyDamageTest() override { set_thread_count(0); }

  // Tensors that have bytes in [begin, end) of the weight file.
  std::set<std::string> tensors_in(std::size_t begin, std::size_t end) const {
    std::set<std::string> names;
    for (const Place& place : places_) {
      if (place.begin < end && begin < place.end) names.insert(place.tensor);
    }
    return names;
  }

  // Damages the file in one of three ways; says how, and which tensors have lost bytes.
  std::string damage(const std::string& name, std::set<std::string>& hit) {
    const fs::path file = out_ / name;
    std::string bytes = read_text_file(file);
    const std::size_t place = random_.below(bytes.size());
    const bool weights = name == kWeights;
    switch (random_.below(4)) {
      case 0:
        fs::remove(file);
        return name + " removed";
      case 1:
        // Nothing can be said of tensors whose places are lost.
        if (weights && place >= places_.front().begin) hit = tensors_in(place, bytes.size());
        write_file(file, bytes.substr(0, place));
        return name + " cut at byte " + std::to_string(place);
      default:
        if (weights) hit = tensors_in(place, place + 1);
        bytes[place] = static_cast<char>(bytes[place] ^ (1 << random_.below(8)));
        write_file(file, bytes);
        return name + " with another bit in byte " + std::to_string(place);
    }
  }

  TemporaryFolder folder_;
  fs::path out_;
  Random random_{20240607};
  std::vector<std::string> files_;
  std::vector<Place> places_;
};

TEST_F(VerifyDamageTest, EveryDamageIsReportedWithFileAndTensor) {
  ASSERT_THAT(verify(out_).problems, IsEmpty());
  ASSERT_THAT(files_, Contains("qvlm.json"));
  int in_tensors = 0, in_headers = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    // Every second time the weights, which are most of a real folder.
    const std::string name = trial % 2 == 0 ? kWeights : files_[random_.below(files_.size())];
    const std::string whole = read_text_file(out_ / name);
    std::set<std::string> hit;
    SCOPED_TRACE(damage(name, hit));
    const VerifyReport report = verify(out_);
    write_file(out_ / name, whole);
    std::set<std::string> files, tensors;
    for (const VerifyProblem& problem : report.problems) {
      files.insert(problem.file);
      if (!problem.tensor.empty()) tensors.insert(problem.tensor);
      EXPECT_NE(problem.problem, "");
    }
    EXPECT_THAT(files, Contains(name));
    // A hash that was changed in qvlm.json accuses its file too.
    if (name != "qvlm.json") {
      files.erase("");
      EXPECT_EQ(files, std::set<std::string>{name});
    }
    if (!hit.empty()) {
      EXPECT_EQ(tensors, hit);
    }
    in_tensors += hit.empty() ? 0 : 1;
    in_headers += hit.empty() && name == kWeights ? 1 : 0;
  }
  EXPECT_GT(in_tensors, kTrials / 5);
  EXPECT_GT(in_headers, 5);  // and files that were removed
  EXPECT_THAT(verify(out_).problems, IsEmpty());
}

}  // namespace
}  // namespace qvlm
