// SPDX-License-Identifier: Apache-2.0
// Which drains are bounded, one line a case.
#include "aiolos/core/drain_outlook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aiolos {
namespace {

using namespace std::chrono_literals;

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

PlanDisk disk_of(double iops, double latency_ms, std::optional<unsigned> queue_size) {
  PlanDisk disk;
  disk.target = "vdb";
  disk.mode = AioMode::native;
  disk.queues = 1;
  disk.queue_size = queue_size;
  disk.speed = {iops, latency_ms, "plan.storage.nfs"};
  return disk;
}

TEST(DrainOutlook, OfDisksThatQemuServes) {
  const struct {
    const char* what;
    double iops;
    double latency_ms;
    std::optional<unsigned> queue_size;
    bool bounded;
    std::chrono::microseconds longest;
  } cases[] = {
      {"QEMU's own queue, deep for its storage", 500, 10, std::nullopt, false, 512ms},
      {"a queue as the plan makes it", 500, 10, 32, true, 64ms},
      {"just deeper than that", 500, 10, 64, false, 128ms},
      {"storage that has use for all of it", 40'000, 5, 256, true, 6400us},
      {"no shorter than a request", 40'000, 20, 256, true, 20ms},
  };
  for (const auto& each : cases) {
    const DrainOutlook outlook = stock_outlook(disk_of(each.iops, each.latency_ms, each.queue_size), 1);
    EXPECT_EQ(outlook.bounded, each.bounded) << each.what;
    EXPECT_EQ(outlook.longest, each.longest) << each.what;
    EXPECT_EQ(outlook.helps.empty(), each.bounded) << each.what;
  }
}

TEST(DrainOutlook, QueuesOfAllProcessorsCount) {
  PlanDisk disk = disk_of(500, 10, 32);
  disk.queues.reset();
  EXPECT_TRUE(stock_outlook(disk, 1).bounded);
  EXPECT_FALSE(stock_outlook(disk, 4).bounded);
}

TEST(DrainOutlook, ThreadsHaveToTakeTurns) {
  PlanDisk disk = disk_of(10'000, 100, 256);
  EXPECT_EQ(stock_outlook(disk, 1).longest, 100ms);
  disk.mode = AioMode::threads;
  EXPECT_EQ(stock_outlook(disk, 1, 64).longest, 400ms);
  EXPECT_EQ(stock_outlook(disk, 1, 256).longest, 100ms);
}

TEST(DrainOutlook, OfStorageThatNobodyHasDescribedIsNotBounded) {
  PlanDisk disk = disk_of(1, 1, 32);
  disk.speed = {};
  const DrainOutlook outlook = stock_outlook(disk, 1);
  EXPECT_FALSE(outlook.bounded);
  EXPECT_FALSE(outlook.longest);
  EXPECT_THAT(outlook.helps, Contains(HasSubstr("plan.storage")));
  EXPECT_THAT(describe(outlook), HasSubstr("not bounded: QEMU takes all"));
}

TEST(DrainOutlook, OfScsiDisksNoQueueCanBeSized) {
  PlanDisk disk = disk_of(500, 10, std::nullopt);
  disk.bus = PlanBus::scsi;
  const DrainOutlook outlook = stock_outlook(disk, 1);
  EXPECT_EQ(outlook.longest, 256ms);
  EXPECT_THAT(outlook.helps, Not(Contains(HasSubstr("queue_size"))));
}

TEST(DrainOutlook, OfEngineDisksIsTheirTarget) {
  EXPECT_EQ(describe(engine_outlook(20ms)).find("bounded to 20.0 ms: aiolos-engine"), 0U);
  EXPECT_THAT(engine_outlook(std::nullopt).helps, IsEmpty());
  EXPECT_FALSE(engine_outlook(0us).bounded);
  EXPECT_THAT(engine_outlook(0us).helps, Not(IsEmpty()));
  EXPECT_EQ(to_json(engine_outlook(std::nullopt)).at("longest_us"), Json());
}

}  // namespace
}  // namespace aiolos
