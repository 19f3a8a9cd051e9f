// SPDX-License-Identifier: Apache-2.0
#include "fio.h"

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

TEST(FioFigures, AreThoseOfAllJobsTogether) {
  EXPECT_THAT(command(Operation::read, {}), Contains("--group_reporting"));
  const char* const answer = R"(fio: a warning
{"jobs": [{"read": {"iops": 150.5, "lat_ns": {"percentile": {"50.000000": 20000, "99.000000": 95000}}},
           "write": {"iops": 0, "lat_ns": {"min": 0}}}]})";
  const auto figures = fio_figures(answer, Operation::read);
  ASSERT_TRUE(figures) << describe(figures.error());
  EXPECT_DOUBLE_EQ(figures->iops, 150.5);
  EXPECT_DOUBLE_EQ(figures->p50_us, 20);
  EXPECT_DOUBLE_EQ(figures->p99_us, 95);
}

TEST(FioFigures, AreAnErrorWhereThereAreNone) {
  for (const char* answer :
       {"", "no json", "{", "{}", R"({"jobs": []})", R"({"jobs": [{}]})", R"({"jobs": [5]})",
        R"({"jobs": {"read": 1}})",
        R"({"jobs": [{"read": {"iops": "many", "lat_ns": {"percentile": {"50.000000": 1, "99.000000": 2}}}}]})",
        R"({"jobs": [{"read": {"iops": 1, "lat_ns": {"percentile": {"50.000000": 1}}}}]})"}) {
    const auto figures = fio_figures(answer, Operation::read);
    ASSERT_FALSE(figures) << answer;
    EXPECT_EQ(figures.error().kind, ErrorKind::storage);
  }
}

}  // namespace
}  // namespace aiolos::measure
