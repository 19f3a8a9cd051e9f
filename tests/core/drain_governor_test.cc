// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/drain_governor.h"

#include <gtest/gtest.h>

#include "simulated_disk.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using test::SimulatedDisk;
using Kind = DrainGovernor::Kind;
using Mode = DrainGovernor::Mode;

constexpr SimulatedDisk::Storage kSaturated{.latency = 10ms, .gap = 2ms};  // 500 IOPS

/// One second to measure what the storage does, as every guest has before it migrates.
void begin_tracking(SimulatedDisk& disk) {
  disk.run(1s);
  disk.governor.set_mode(Mode::tracked);
}

TEST(DrainGovernor, LeavesAFreeDiskAlone) {
  SimulatedDisk disk(kSaturated, 64);
  EXPECT_NEAR(disk.run(5s), 500, 10);
  EXPECT_NEAR(disk.drain() / 1ms, 128, 4) << "all 64 wait for the storage";
}

TEST(DrainGovernor, BoundsASaturatedDiskAtItsFullRate) {
  SimulatedDisk disk(kSaturated, 64);
  begin_tracking(disk);
  disk.run(1s);
  EXPECT_GE(disk.run(10s), 0.95 * 500);
  EXPECT_LT(disk.drain_p99(100), 20ms);
  EXPECT_TRUE(disk.governor.forecast().feasible);
}

TEST(DrainGovernor, BoundsJitter) {
  SimulatedDisk disk({.latency = 5ms, .gap = 1ms, .jitter = 0.5}, 64);
  begin_tracking(disk);
  disk.run(1s);
  EXPECT_GE(disk.run(10s), 0.95 * 1000);
  EXPECT_LT(disk.drain_p99(100), 20ms);
}

TEST(DrainGovernor, IsNotLedAstrayByRequestsThatTheStorageForgets) {
  SimulatedDisk disk({.latency = 10ms, .gap = 2ms, .hiccups = 1000}, 64);
  begin_tracking(disk);
  disk.run(2s);
  EXPECT_GE(disk.run(30s), 0.9 * 500);
  EXPECT_LE(disk.governor.in_flight(), 12U) << "a hiccup is no reason to let the queue grow";
}

/// The answers that come at once after it are not what the storage can do.
TEST(DrainGovernor, IsNotLedAstrayByStorageThatStandsStillForAMoment) {
  SimulatedDisk disk({.latency = 10ms, .gap = 2ms, .pause = 70ms}, 64);
  disk.run(5s);
  const double quarter_of_target = 500 * 0.005 * 4096;
  ASSERT_TRUE(disk.governor.largest_piece());
  EXPECT_NEAR(static_cast<double>(*disk.governor.largest_piece()), quarter_of_target, 0.03 * quarter_of_target);
}

TEST(DrainGovernor, TakesNothingFromADiskThatIsNotSaturated) {
  SimulatedDisk disk({.latency = 10ms}, 16);
  begin_tracking(disk);
  disk.run(1s);
  EXPECT_GE(disk.run(10s), 0.95 * 1600);
  EXPECT_LT(disk.drain_p99(100), 20ms);
}

TEST(DrainGovernor, TakesNothingFromAFastDisk) {
  SimulatedDisk disk({.latency = 100us, .gap = 20us}, 256);
  begin_tracking(disk);
  EXPECT_GE(disk.run(5s), 0.99 * 50'000);
  EXPECT_LT(disk.drain(), 20ms);
}

TEST(DrainGovernor, SaysWhereTheTargetCannotBeKeptAndKeepsWhatCan) {
  SimulatedDisk disk({.latency = 100ms}, 64);
  begin_tracking(disk);
  disk.run(3s);
  EXPECT_GE(disk.run(60s), 0.95 * 640) << "fewer requests would not end sooner";
  const auto forecast = disk.governor.forecast();
  EXPECT_FALSE(forecast.feasible);
  EXPECT_GE(forecast.bound, 100ms);
  EXPECT_LE(forecast.bound, 150ms);
  EXPECT_LE(disk.drain_p99(20), 101ms);
}

/// Little's law makes a queue of 128 ms look like a latency of 128 ms.
TEST(DrainGovernor, TellsAQueueFromALatency) {
  SimulatedDisk queue(kSaturated, 64);
  SimulatedDisk latency({.latency = 128ms}, 64);
  for (SimulatedDisk* disk : {&queue, &latency}) {
    begin_tracking(*disk);
    disk->run(2s);
  }
  EXPECT_TRUE(queue.governor.forecast().feasible);
  EXPECT_FALSE(latency.governor.forecast().feasible);
}

TEST(DrainGovernor, FindsTheRateOfADiskThatWasIdleBefore) {
  SimulatedDisk disk(kSaturated, 1);
  begin_tracking(disk);
  EXPECT_NEAR(disk.run(1s), 100, 5);
  disk.depth = 64;
  disk.run(10s);
  EXPECT_GE(disk.run(10s), 0.95 * 500);
  EXPECT_LT(disk.drain_p99(100), 20ms);
}

TEST(DrainGovernor, FollowsStorageThatBecomesSlower) {
  SimulatedDisk disk(kSaturated, 64);
  begin_tracking(disk);
  disk.run(5s);
  disk.storage.gap = 5ms;  // 200 IOPS
  disk.run(2s);
  EXPECT_LT(disk.drain_p99(100), 20ms);
  EXPECT_GE(disk.run(10s), 0.9 * 200);
}

TEST(DrainGovernor, TakesUpWhatBecomesFaster) {
  SimulatedDisk disk(kSaturated, 64);
  begin_tracking(disk);
  disk.run(5s);
  disk.storage.gap = 200us;
  disk.run(10s);
  EXPECT_GE(disk.run(10s), 0.9 * 5'000);
  EXPECT_LT(disk.drain_p99(100), 20ms);
}

TEST(DrainGovernor, HoldsHalfBackWhenSwitchoverIsNear) {
  SimulatedDisk disk(kSaturated, 64);
  begin_tracking(disk);
  disk.run(5s);
  const auto tracked = disk.governor.in_flight();
  disk.governor.set_mode(Mode::clamped);
  disk.run(100ms);
  EXPECT_LE(disk.governor.in_flight(), (tracked + 1) / 2);
  EXPECT_GE(disk.governor.in_flight(), 1U);
}

TEST(DrainGovernor, PredictsTheDrainOfADiskThatIsNotBounded) {
  SimulatedDisk disk(kSaturated, 64);
  disk.run(2s);
  const auto predicted = disk.governor.forecast().drain;
  EXPECT_NEAR(predicted / 1us, disk.drain() / 1us, 5000);
}

TEST(DrainGovernor, PredictsWhatMostDrainsTakeAndPromisesWhatTheLongestDo) {
  DrainGovernor governor;
  DrainGovernor::Time now{};
  for (int i = 1; i <= 200; ++i) {
    const auto ticket = governor.start(Kind::transfer, 4096, now);
    now += i % 40 == 0 ? 30ms : 10ms;
    governor.finish(ticket, now);
    governor.tick(now);
  }
  governor.start(Kind::transfer, 4096, now);
  EXPECT_NEAR(governor.forecast().drain / 1us, 11'000, 1'000);
  EXPECT_GE(governor.forecast().bound, 30ms);
}

TEST(DrainGovernor, PredictsNoLessThanOneRequestTakesWhileTheLatencyIsNotKnown) {
  SimulatedDisk disk({.latency = 50ms}, 16);
  disk.run(300ms);
  disk.depth = 1;
  disk.run(60ms);
  ASSERT_EQ(disk.governor.in_flight(), 1U);
  EXPECT_GE(disk.governor.forecast().drain, 45ms);
}

TEST(DrainGovernor, StartsAlwaysOneAndFewOfAnUnknownDisk) {
  DrainGovernor governor;
  const DrainGovernor::Time now{};
  governor.set_mode(Mode::tracked);
  unsigned started = 0;
  while (governor.admits(1 << 30) && ++started < 100) governor.start(Kind::transfer, 1 << 30, now);
  EXPECT_EQ(started, 4U);
}

TEST(DrainGovernor, StartsNothingWhileStopped) {
  DrainGovernor governor;
  governor.set_mode(Mode::stopped);
  EXPECT_FALSE(governor.admits(4096));
  governor.set_mode(Mode::free);
  EXPECT_TRUE(governor.admits(4096));
}

TEST(DrainGovernor, StartsNothingBesideAFlushWhileClamped) {
  DrainGovernor governor;
  const DrainGovernor::Time now{};
  governor.set_mode(Mode::clamped);
  const auto flush = governor.start(Kind::heavy, 0, now);
  EXPECT_FALSE(governor.admits(4096));
  governor.set_mode(Mode::tracked);
  EXPECT_TRUE(governor.admits(4096));
  governor.set_mode(Mode::clamped);
  governor.start(Kind::transfer, 4096, now);
  governor.finish(flush, now + 1ms);
  EXPECT_TRUE(governor.admits(4096));
}

TEST(DrainGovernor, SplitsWhatAloneWouldTakeAQuarterOfTheTarget) {
  SimulatedDisk disk({.latency = 1ms, .gap = 10ms}, 8);
  disk.bytes = 1 << 20;  // 100 MiB/s
  EXPECT_FALSE(disk.governor.largest_piece());
  disk.run(2s);
  ASSERT_TRUE(disk.governor.largest_piece());
  EXPECT_NEAR(static_cast<double>(*disk.governor.largest_piece()), 0.5 * (1 << 20), 0.06 * (1 << 20));
}

TEST(DrainGovernor, KeepsAnotherTarget) {
  SimulatedDisk disk(kSaturated, 64, {.target = 50ms});
  begin_tracking(disk);
  disk.run(5s);
  EXPECT_LT(disk.drain_p99(100), 50ms);
  disk.governor.set_target(30ms);
  disk.run(5s);
  EXPECT_LT(disk.drain_p99(100), 30ms);
}

}  // namespace
}  // namespace aiolos
