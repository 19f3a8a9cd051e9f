// SPDX-License-Identifier: Apache-2.0
#include "load_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace aiolos::measure {
namespace {

using ::testing::ElementsAre;

TEST(LoadMatrix, GivesEveryCombinationOnce) {
  LoadMatrix matrix;
  matrix.block_sizes = {4096, 65536};
  const std::vector<LoadCase> cases = cases_of(matrix);
  std::set<std::string> names;
  for (const LoadCase& load : cases) names.insert(describe(load));
  EXPECT_EQ(cases.size(), 2U * 2 * 2 * 3 * 2);
  EXPECT_EQ(names.size(), cases.size());
}

TEST(LoadMatrix, PutsDepthsOfOneKindOfLoadSideBySideAndInOrder) {
  LoadMatrix matrix;
  matrix.operations = {Operation::write};
  matrix.patterns = {Pattern::sequential};
  matrix.depths = {64, 1};
  std::vector<std::string> names;
  for (const LoadCase& load : cases_of(matrix)) names.push_back(describe(load));
  EXPECT_THAT(names,
              ElementsAre("sequential write 4 KiB, depth 1, 1 disk", "sequential write 4 KiB, depth 64, 1 disk",
                          "sequential write 4 KiB, depth 1, 4 disks", "sequential write 4 KiB, depth 64, 4 disks"));
}

TEST(LoadMatrix, QuickIsAFewCasesOfOneDisk) {
  const std::vector<LoadCase> cases = cases_of(quick_matrix());
  EXPECT_EQ(cases.size(), 4U);
  for (const LoadCase& load : cases) EXPECT_EQ(load.disks, 1U);
}

TEST(LoadCase, IsDescribedInTheFieldsWords) {
  const LoadCase load{Operation::read, Pattern::random, 512, 8, 2};
  EXPECT_EQ(describe(load), "random read 512 bytes, depth 8, 2 disks");
  EXPECT_EQ(describe_without_depth(load), "random read 512 bytes, 2 disks");
  EXPECT_EQ(to_json(load), Json::parse(R"({"operation": "read", "pattern": "random", "block_size": 512, "depth": 8,
                                           "disks": 2})"));
}

}  // namespace
}  // namespace aiolos::measure
