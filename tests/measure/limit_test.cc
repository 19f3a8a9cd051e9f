// SPDX-License-Identifier: Apache-2.0
#include "limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aiolos::measure {
namespace {

using ::testing::Contains;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> command(Operation operation, RunOptions options, std::vector<std::string> files = {"/a"}) {
  return fio_command(files, {operation, Pattern::random, 4096, 8, static_cast<unsigned>(files.size())}, options,
                     "io_uring", "/out");
}

TEST(FioCommand, AReadCannotWrite) {
  EXPECT_THAT(command(Operation::read, {}), Contains("--readonly"));
  EXPECT_THAT(command(Operation::read, {}), Contains("--rw=randread"));
  EXPECT_THAT(command(Operation::write, {}), Not(Contains("--readonly")));
}

TEST(FioCommand, NeverMakesAFile) { EXPECT_THAT(command(Operation::write, {}), Contains("--allow_file_create=0")); }

TEST(FioCommand, RunsForTheTimeOrOverEachBlockOnce) {
  EXPECT_THAT(command(Operation::read, {0.25, false}), Contains("--time_based"));
  EXPECT_THAT(command(Operation::read, {0.25, false}), Contains("--runtime=250ms"));
  EXPECT_THAT(command(Operation::write, {0.25, true}), Not(Contains("--time_based")));
  EXPECT_THAT(command(Operation::write, {0.25, true}), Not(Contains(StartsWith("--ramp_time"))));
}

TEST(FioCommand, HasAJobForEachDiskWhateverItsName) {
  const auto argv = command(Operation::read, {}, {"/dev/disk/by-path/ip:3260", "/b"});
  EXPECT_THAT(argv, Contains("--filename=/dev/disk/by-path/ip\\:3260"));
  EXPECT_THAT(argv, Contains("--name=disk1"));
}

TEST(FioIops, AreTheSumOfTheJobs) {
  const char* const answer = R"(fio: a warning
{"jobs": [{"read": {"iops": 100.5}, "write": {"iops": 0}}, {"read": {"iops": 50}, "write": {"iops": 3}}]})";
  EXPECT_DOUBLE_EQ(*fio_iops(answer, Operation::read), 150.5);
  EXPECT_DOUBLE_EQ(*fio_iops(answer, Operation::write), 3);
}

TEST(FioIops, AreAnErrorWhereThereAreNone) {
  for (const char* answer : {"", "no json", "{", "{}", R"({"jobs": []})", R"({"jobs": [{}]})", R"({"jobs": [5]})",
                             R"({"jobs": [{"read": {"iops": "many"}}]})", R"({"jobs": {"read": 1}})"}) {
    const auto iops = fio_iops(answer, Operation::read);
    ASSERT_FALSE(iops) << answer;
    EXPECT_EQ(iops.error().kind, ErrorKind::storage);
  }
}

}  // namespace
}  // namespace aiolos::measure
