#include "io/problem_list.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace qvlm {
namespace {

TEST(ProblemList, CutsWhatTheLineSaysAnyway) {
  ProblemList problems("a/out");
  problems.add("f", "t", "a/out/f: tensor 't' is short");
  problems.add("f", "", "a/out/g (header): no JSON");
  problems.add("", "", "a/out: no weights");
  problems.add("", "", "a/outer: is another folder");
  problems.add("f", "t", "tensor 'tt': is another tensor");
  const std::vector<std::vector<std::string>> want = {{"f", "t", "is short"},
                                                      {"g", "", "(header): no JSON"},
                                                      {"", "", "no weights"},
                                                      {"", "", "a/outer: is another folder"},
                                                      {"f", "t", "tensor 'tt': is another tensor"}};
  ASSERT_EQ(problems.count(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const VerifyProblem& problem = problems.all()[i];
    EXPECT_EQ((std::vector{problem.file, problem.tensor, problem.problem}), want[i]);
  }
  EXPECT_TRUE(problems.names("g"));
  EXPECT_TRUE(problems.names_tensor("t"));
  EXPECT_FALSE(problems.names_tensor("tt"));
}

// A model that is not supported is no damage; behind damage it may be a consequence.
TEST(ProblemList, ThrowsOnWhatIsNoDamage) {
  const auto unsupported = [] { fail(ErrorKind::kUnsupported, "out/c.json: strange model"); };
  ProblemList problems("out");
  EXPECT_THROW(problems.attempt("c.json", "", unsupported), Error);
  EXPECT_FALSE(
      problems.attempt("c.json", "", [] { fail(ErrorKind::kCorrupt, "out/c.json: no JSON"); }));
  EXPECT_FALSE(problems.attempt("c.json", "", unsupported));
  EXPECT_EQ(problems.count(), 2u);
  EXPECT_FALSE(problems.attempt_load(unsupported));  // c.json is known
  EXPECT_EQ(problems.count(), 2u);
}

}  // namespace
}  // namespace qvlm
